//! The kernel, and what it has.

use std::{fs, path::Path};

use nix::sys::utsname::uname;

use super::Finding;
use crate::kernel;

/// The oldest kernel with what the BPF programs use.
const OLDEST: (u32, u32) = (5, 10);
/// Answers of seccomp filters that sessions are under.
const ANSWERS: [&str; 3] = ["kill_process", "errno", "allow"];

pub fn check() -> Vec<Finding> {
    vec![
        version(),
        cgroup2(),
        controllers(),
        seccomp(),
        namespaces(),
        processes(),
        unprivileged_bpf(),
        ipv6(),
    ]
}

fn version() -> Finding {
    const SUBJECT: &str = "kernel";
    let advice = "use Linux 5.10 or newer (Debian 11 and later have it)";
    let Ok(name) = uname() else {
        return Finding::fail(SUBJECT, "it does not tell its version", advice);
    };
    let release = name.release().to_string_lossy();
    match parse_version(&release) {
        Some(version) if version >= OLDEST => Finding::ok(SUBJECT, format!("Linux {release}")),
        _ => Finding::fail(
            SUBJECT,
            format!("Linux {release} lacks what the BPF programs use"),
            advice,
        ),
    }
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn cgroup2() -> Finding {
    match kernel::cgroup2_root() {
        Ok(root) => Finding::ok("cgroup2", format!("mounted at {}", root.display())),
        Err(error) => Finding::fail(
            "cgroup2",
            format!("{error:#}"),
            "boot with systemd.unified_cgroup_hierarchy=1, or mount it as above",
        ),
    }
}

/// Sessions do without, but nothing bounds their memory and processes then.
fn controllers() -> Finding {
    const SUBJECT: &str = "controllers";
    let Ok(root) = kernel::cgroup2_root() else {
        return Finding::warn(SUBJECT, "there is no cgroup2", "see above");
    };
    let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let missing: Vec<_> = ["memory", "pids"]
        .into_iter()
        .filter(|wanted| !there.split_whitespace().any(|it| it == *wanted))
        .collect();
    if missing.is_empty() {
        return Finding::ok(SUBJECT, "memory and pids are on cgroup2");
    }
    Finding::warn(
        SUBJECT,
        format!(
            "{} not on cgroup2: a session can use up the host's",
            missing.join(" and ")
        ),
        "boot with systemd.unified_cgroup_hierarchy=1 (cgroup_no_v1=all)",
    )
}

fn seccomp() -> Finding {
    const SUBJECT: &str = "seccomp";
    let there = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if ANSWERS
        .iter()
        .all(|wanted| there.split_whitespace().any(|it| it == *wanted))
    {
        return Finding::ok(SUBJECT, "filters can kill and refuse");
    }
    Finding::fail(
        SUBJECT,
        "system-call filters do not work: sockets that meet no cgroup hook would be open to sessions",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    )
}

fn namespaces() -> Finding {
    const SUBJECT: &str = "namespaces";
    let missing: Vec<_> = ["net", "mnt", "pid", "ipc", "uts", "cgroup", "user"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if missing.is_empty() {
        return Finding::ok(SUBJECT, "the kernel has all kinds");
    }
    Finding::fail(
        SUBJECT,
        format!("the kernel lacks {}", missing.join(", ")),
        "use a kernel with CONFIG_NAMESPACES and all below it",
    )
}

fn processes() -> Finding {
    const SUBJECT: &str = "process numbers";
    if kernel::knows_all_processes() {
        return Finding::ok(SUBJECT, "the kernel's are the ones seen here");
    }
    Finding::warn(
        SUBJECT,
        "this is a container with a PID namespace of its own: what connects cannot be named, and runners' jobs cannot be bound",
        "run the daemon on the host",
    )
}

fn unprivileged_bpf() -> Finding {
    const SUBJECT: &str = "unprivileged BPF";
    let switch = "/proc/sys/kernel/unprivileged_bpf_disabled";
    match fs::read_to_string(switch).as_deref().map(str::trim) {
        Ok("0") => Finding::warn(
            SUBJECT,
            "every user may load BPF programs: sessions may not, their user outside may",
            "sysctl kernel.unprivileged_bpf_disabled=2",
        ),
        _ => Finding::ok(SUBJECT, "for root alone"),
    }
}

fn ipv6() -> Finding {
    let there = Path::new("/proc/net/if_inet6").exists();
    let says = if there {
        "there"
    } else {
        "the kernel has none"
    };
    Finding::ok("IPv6", says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse_version("6.1.0-13-amd64"), Some((6, 1)));
        assert!(parse_version("5.9.1").expect("a version") < OLDEST);
        assert_eq!(parse_version("garbage"), None);
    }
}
