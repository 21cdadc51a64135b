//! The caller's resource limits, from `/proc/PID/limits`: prlimit(2) on another user's process takes `CAP_SYS_RESOURCE`.

use std::io;

use super::sys::Limit;

/// The file's names of resources (`fs/proc/base.c`).
const NAMES: [(&str, u32); 16] = [
    ("Max cpu time", libc::RLIMIT_CPU),
    ("Max file size", libc::RLIMIT_FSIZE),
    ("Max data size", libc::RLIMIT_DATA),
    ("Max stack size", libc::RLIMIT_STACK),
    ("Max core file size", libc::RLIMIT_CORE),
    ("Max resident set", libc::RLIMIT_RSS),
    ("Max processes", libc::RLIMIT_NPROC),
    ("Max open files", libc::RLIMIT_NOFILE),
    ("Max locked memory", libc::RLIMIT_MEMLOCK),
    ("Max address space", libc::RLIMIT_AS),
    ("Max file locks", libc::RLIMIT_LOCKS),
    ("Max pending signals", libc::RLIMIT_SIGPENDING),
    ("Max msgqueue size", libc::RLIMIT_MSGQUEUE),
    ("Max nice priority", libc::RLIMIT_NICE),
    ("Max realtime priority", libc::RLIMIT_RTPRIO),
    ("Max realtime timeout", libc::RLIMIT_RTTIME),
];

/// The limits of a process.
///
/// # Errors
/// When it is gone, or the kernel tells its limits in another way than known.
pub fn of(pid: u32) -> io::Result<Vec<Limit>> {
    let limits = parse(&std::fs::read_to_string(format!("/proc/{pid}/limits"))?);
    if limits.len() == NAMES.len() {
        Ok(limits)
    } else {
        Err(io::Error::other("resource limits of an unknown form"))
    }
}

fn parse(text: &str) -> Vec<Limit> {
    NAMES
        .iter()
        .filter_map(|(name, resource)| {
            let mut values = text
                .lines()
                .find_map(|line| line.strip_prefix(name))?
                .split_whitespace();
            Some((*resource, value(values.next()?)?, value(values.next()?)?))
        })
        .collect()
}

fn value(text: &str) -> Option<u64> {
    if text == "unlimited" {
        Some(libc::RLIM_INFINITY)
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_is_what_the_kernel_says() {
        let file = of(std::process::id()).expect("reads its own");
        assert_eq!(file, crate::launch::sys::own_limits().expect("asks"));
    }
}
