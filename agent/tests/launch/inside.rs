//! What a command finds inside a session.

use std::{fs, os::unix::process::ExitStatusExt as _, process::Stdio};

use crate::{
    Case,
    world::{TOKEN, UID, World},
};

pub const CASES: &[Case] = &[
    ("environment", environment),
    ("working_directory", working_directory),
    ("only_stdio_is_open", only_stdio_is_open),
    ("privileges", privileges),
    ("limits_and_umask", limits_and_umask),
    ("network", network),
    ("the_proxy_is_there", the_proxy_is_there),
    ("files", files),
    ("processes", processes),
    ("host_is_untouched", host_is_untouched),
    ("socket_families", socket_families),
    ("system_calls", system_calls),
    ("foreign_abis", foreign_abis),
];

fn environment(world: &World) {
    let output = world
        .client(&["env"])
        .envs([
            ("HTTPS_PROXY", "http://elsewhere"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json"),
            ("REQUESTS_CA_BUNDLE", "/elsewhere.pem"),
            ("KEPT", "ümlaut"),
        ])
        .output()
        .expect("runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<_> = text.lines().collect();
    let bundle = world.dir().join("run/ca-bundle.pem");
    for expected in [
        "KEPT=ümlaut".to_owned(),
        "GOOGLE_CLOUD_PROJECT=test-project".to_owned(),
        format!("REQUESTS_CA_BUNDLE={}", bundle.display()),
        format!("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE={}", bundle.display()),
    ] {
        assert!(
            lines.contains(&expected.as_str()),
            "{expected} is missing in {text}"
        );
    }
    for forbidden in ["PROXY", "CREDENTIALS", "elsewhere", TOKEN] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("HOLDPOINT_SESSION=s-"))
    );
}

fn working_directory(world: &World) {
    assert_eq!(
        world.says("pwd -P").trim(),
        world.dir().join("work").to_str().expect("UTF-8")
    );
    // What lies under the session's own mounts cannot be the working directory.
    let output = world
        .client(&["true"])
        .current_dir(world.dir().join("run"))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("cannot be reached inside a session"),
        "{said}"
    );
    // And no `..` leads out of them: the daemon's socket is not to be seen.
    assert_eq!(world.says("ls ../run").trim(), "ca-bundle.pem\nresolv.conf");
}

fn only_stdio_is_open(world: &World) {
    // The fourth is ls's own.
    assert_eq!(
        world
            .says("exec ls /proc/self/fd")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
}

fn privileges(world: &World) {
    let status = world.says("cat /proc/self/status");
    let is = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a field");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let nobody = [UID; 4].map(|uid| uid.to_string()).join(" ");
    assert_eq!(is("Uid:"), nobody);
    assert_eq!(is("Gid:"), nobody);
    assert_eq!(is("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(is(set), "0000000000000000", "{set}");
    }
    assert_eq!(is("NoNewPrivs:"), "1");
    assert_eq!(is("Seccomp:"), "2");
    assert_eq!(is("SigBlk:"), "0000000000000000");
    assert_eq!(is("SigIgn:"), "0000000000000000");
}

fn limits_and_umask(world: &World) {
    let mut client = world.client(&["sh", "-c", "umask; ulimit -n; ulimit -Hn; ulimit -c"]);
    let set = || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        use nix::sys::resource::{Resource, setrlimit};
        setrlimit(Resource::RLIMIT_NOFILE, 333, 444)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        Ok(())
    };
    // SAFETY: umask and setrlimit may be called after fork.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut client, set) };
    let output = client.output().expect("runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "0027\n333\n444\n0\n"
    );
}

fn network(world: &World) {
    assert_eq!(world.says("tail -n +2 /proc/net/route"), "");
    let devices = world.says("tail -n +3 /proc/net/dev");
    assert!(
        devices.lines().all(|line| line.trim().starts_with("lo:")),
        "{devices}"
    );
    assert_eq!(devices.lines().count(), 1);
    let listening = world.says("cat /proc/net/tcp /proc/net/udp");
    // 127.0.0.1:15001 and 127.0.0.1:53, as the kernel writes them.
    assert!(
        listening.contains("0100007F:3A99") && listening.contains("0100007F:0035"),
        "{listening}"
    );
    assert_eq!(
        world
            .says("cat /proc/net/udp")
            .matches("0100007F:0035")
            .count(),
        1
    );
}

fn the_proxy_is_there(world: &World) {
    let said = world
        .client(&[
            "bash",
            "-c",
            "read line < /dev/tcp/127.0.0.1/15001; echo $line",
        ])
        .output();
    assert_eq!(
        String::from_utf8_lossy(&said.expect("runs").stdout),
        "the proxy\n"
    );
}

fn files(world: &World) {
    let bundle = "the session's CA bundle\n";
    assert_eq!(world.says("cat /etc/ssl/certs/ca-certificates.crt"), bundle);
    assert_eq!(world.says("cat $SSL_CERT_FILE"), bundle);
    assert!(
        world
            .says("cat /etc/resolv.conf")
            .ends_with("nameserver 127.0.0.1\n")
    );
    assert!(!world.sh("echo x >> $SSL_CERT_FILE").status.success());
}

fn processes(world: &World) {
    // Its init, itself and nothing of the host's.
    let pids = world.says("ls /proc | grep '^[0-9]' | sort -n | tr '\\n' ' '");
    let pids: Vec<u32> = pids
        .split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect();
    assert!(
        pids.len() <= 7 && pids.iter().all(|pid| *pid < 20),
        "{pids:?}"
    );
    assert!(!world.sh("cat /proc/1/environ").status.success());
    assert!(!world.sh("ls /proc/1/fd").status.success());
    assert!(!world.sh("ls /proc/1/root/").status.success());
    assert!(world.sh("kill -9 1; kill -TERM 1; true").status.success());
}

fn host_is_untouched(world: &World) {
    let before = fs::read_to_string("/proc/self/mountinfo").expect("reads");
    let output = world
        .client(&["sleep", "0.2"])
        .stdout(Stdio::null())
        .status()
        .expect("runs");
    assert!(output.success());
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").expect("reads"),
        before
    );
    assert_ne!(
        fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("reads"),
        "the session's CA bundle\n"
    );
    assert!(world.socket().exists());
}

fn socket_families(world: &World) {
    let output = world.probe("families");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "unix: works\ninet: works\ninet6: works\nnetlink route: works\nnetlink audit: EAFNOSUPPORT\n\
         packet: EAFNOSUPPORT\nvsock: EAFNOSUPPORT\nalg: EAFNOSUPPORT\nxdp: EAFNOSUPPORT\n\
         packet in 64 bits: EAFNOSUPPORT\nunix pair: works\ntipc pair: EAFNOSUPPORT\n"
    );
}

fn system_calls(world: &World) {
    let output = world.probe("calls");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let missing = ["io_uring", "keyctl", "add_key", "clone3"]
            .iter()
            .any(|name| line.starts_with(name));
        assert!(
            line.ends_with(if missing { ": ENOSYS" } else { ": EPERM" }),
            "{text}"
        );
    }
    assert_eq!(text.lines().count(), 21);
}

fn foreign_abis(world: &World) {
    if cfg!(target_arch = "x86_64") {
        for probe in ["x32", "i386"] {
            let output = world.probe(probe);
            assert_eq!(
                output.status.signal(),
                Some(libc::SIGSYS),
                "{probe}: {output:?}"
            );
            assert!(output.stdout.is_empty());
        }
    }
}
