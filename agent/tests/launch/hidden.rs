//! What of the host is not to be seen in a session, or not to be reached.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, fs::chown, net::UnixListener},
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{
    Case,
    world::{UID, World, eventually},
};

pub const CASES: &[Case] = &[
    ("own_tmp", own_tmp),
    ("own_tmp_leaves_nothing", own_tmp_leaves_nothing),
    ("a_session_may_start_in_tmp", a_session_may_start_in_tmp),
    ("what_the_caller_needs_stays", what_the_caller_needs_stays),
    ("what_the_caller_may_not_see", what_the_caller_may_not_see),
    ("what_is_shared", what_is_shared),
    ("own_run", own_run),
    ("sockets_of_the_host", sockets_of_the_host),
    ("later_sockets_of_the_host", later_sockets_of_the_host),
    ("own_views_of_the_kernel", own_views_of_the_kernel),
    ("no_cores", no_cores),
    ("limits_of_a_session", limits_of_a_session),
    ("helpers_lead_nowhere", helpers_lead_nowhere),
];

/// A directory of the host's that is gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn make(path: impl Into<PathBuf>, mode: u32) -> Self {
        let path = path.into();
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permissions");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removes");
    }
}

/// The test's own name for something in a directory of the host's.
fn own(world: &World, parent: &str, name: &str) -> PathBuf {
    let world = world.dir().file_name().expect("a name").to_string_lossy();
    Path::new(parent).join(format!("{world}-{name}"))
}

fn own_tmp(world: &World) {
    for root in ["/tmp", "/var/tmp", "/dev/shm"] {
        let host = Dir::make(own(world, root, "host"), 0o777);
        let file = own(world, root, "file");
        let script = format!(
            "ls -d {} 2>&1; echo x > {} && stat -c %a {root} && cat {}",
            host.0.display(),
            file.display(),
            file.display()
        );
        let said = world.says(&script);
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].contains("No such file"), "{root}: {said}");
        assert_eq!(lines[1..], ["1777", "x"], "{root}: {said}");
        assert!(!file.exists(), "{root}");
        // The next session has another one.
        assert!(
            !world
                .sh(&format!("cat {}", file.display()))
                .status
                .success()
        );
    }
    // As large as the host's, and shared memory bounded.
    let blocks = |said: String| said.trim().parse::<u64>().expect("a number");
    let kind = "stat -f -c %T /tmp; stat -f -c %T /var/tmp";
    let host = std::process::Command::new("sh").args(["-c", kind]).output();
    let host = String::from_utf8(host.expect("runs").stdout).expect("UTF-8");
    assert_eq!(world.says(kind), host);
    let size = blocks(world.says("df --output=size -k /dev/shm | tail -1"));
    assert_eq!(size, 1 << 20);
}

fn own_tmp_leaves_nothing(world: &World) {
    let left = || {
        let entries = ["/tmp", "/var/tmp"].map(|root| fs::read_dir(root).expect("reads"));
        let prefix = format!("{}-s-", world.dir().file_name().expect("a name").display());
        let names = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(&prefix))
            .count()
    };
    world.all_ended();
    eventually("nothing is left of others", || left() == 0);
    // Deeper than a path can be, sticky, closed, and linked out of.
    let deep = "mkdir -p /tmp/a/b; chmod 0 /tmp/a/b; mkdir -m 1777 /var/tmp/sticky; touch /var/tmp/sticky/file; ln -s /etc /tmp/link; \
                cd /tmp; for i in $(seq 300); do mkdir dddddddddddddddddddd; cd -P dddddddddddddddddddd; done; echo made";
    assert_eq!(world.says(deep).trim(), "made");
    world.all_ended();
    eventually("nothing is left", || left() == 0);
    assert!(Path::new("/etc/passwd").exists());
    // Of sessions that died with their daemon neither.
    let mut client = world.client(&["sh", "-c", "echo x > /tmp/x; sleep 1000"]);
    let mut client = client.spawn().expect("starts");
    eventually("the session is there", || left() == 2);
    world.kill_daemon();
    client.kill().expect("kills");
    client.wait().expect("waits");
    world.restart_daemon();
    eventually("nothing is left of the dead daemon's", || left() == 0);
}

fn a_session_may_start_in_tmp(world: &World) {
    let output = world
        .client(&["sh", "-c", "pwd; ls -A | grep -v hp-launch; true"])
        .current_dir("/tmp")
        .output();
    let output = output.expect("runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "/tmp\n",
        "{output:?}"
    );
}

fn what_the_caller_needs_stays(world: &World) {
    let home = Dir::make(own(world, "/var/tmp", "home"), 0o700);
    chown(&home.0, Some(UID), Some(UID)).expect("to be given away");
    let program = home.0.join("program");
    fs::write(
        &program,
        "#!/bin/sh\npwd; cat $HOME/file; echo back > $HOME/back; ls $TMPDIR\n",
    )
    .expect("writes");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("permissions");
    fs::write(home.0.join("file"), "kept\n").expect("writes");
    let temporary = Dir::make(own(world, "/dev/shm", "temporary"), 0o755);
    fs::write(temporary.0.join("here"), "").expect("writes");
    let output = world
        .client(&[program.to_str().expect("UTF-8")])
        .env("HOME", &home.0)
        .env("TMPDIR", &temporary.0)
        .output()
        .expect("runs");
    let work = world.dir().join("work");
    let expected = format!("{}\nkept\nhere\n", work.display());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{output:?}"
    );
    assert_eq!(
        fs::read_to_string(home.0.join("back")).expect("reads"),
        "back\n"
    );
    // Standard output and input are what they are, wherever they come from.
    let file = home.0.join("output");
    fs::write(&file, "").expect("writes");
    chown(&file, Some(UID), None).expect("to be given away");
    let status = world
        .client(&["sh", "-c", "cat; echo more > /proc/self/fd/1"])
        .stdin(fs::File::open(home.0.join("file")).expect("opens"))
        .stdout(
            fs::File::options()
                .append(true)
                .create(true)
                .open(&file)
                .expect("opens"),
        )
        .status();
    assert!(status.expect("runs").success());
    assert!(fs::read_to_string(&file).expect("reads").contains("more\n"));
}

fn what_the_caller_may_not_see(world: &World) {
    // Another user's, and named by a link.
    let closed = Dir::make(own(world, "/tmp", "closed"), 0o700);
    let inside = Dir::make(closed.0.join("inside"), 0o777);
    fs::write(inside.0.join("secret"), "secret").expect("writes");
    let link = own(world, "/tmp", "link");
    std::os::unix::fs::symlink(&inside.0, &link).expect("links");
    for home in [&inside.0, &link, &inside.0.join("secret")] {
        let mut client = world.client(&["sh", "-c", "cat $HOME $HOME/secret"]);
        let output = client.env("HOME", home).output().expect("runs");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    fs::remove_file(link).expect("removes");
    // A socket, named as if it were a directory.
    let socket = own(world, "/tmp", "socket");
    let _listener = open_socket(&socket);
    let mut client = world.client(&["sh", "-c", "ls -d $TMPDIR"]);
    let output = client.env("TMPDIR", &socket).output().expect("runs");
    assert!(output.stdout.is_empty(), "{output:?}");
    fs::remove_file(socket).expect("removes");
}

/// See `world::daemon` for what the operator has chosen.
fn what_is_shared(world: &World) {
    assert_eq!(
        world.says(&format!("cat {}/shared/file", world.dir().display())),
        "shared\n"
    );
    assert_eq!(
        world.says(&format!("ls {}", world.dir().display())),
        "run\nshared\nwork\n"
    );
}

fn own_run(world: &World) {
    let socket = own(world, "/run", "sock");
    let _listener = open_socket(&socket);
    let said = world.says("ls -A /run; ls -A /run/user /var/run | sort; stat -c '%a %u %g' $XDG_RUNTIME_DIR; touch $XDG_RUNTIME_DIR/x");
    fs::remove_file(&socket).expect("removes");
    let resolver = |line: &&str| !matches!(*line, "systemd" | "resolvconf" | "NetworkManager");
    let lines: Vec<_> = said.lines().filter(resolver).collect();
    let expected = format!("lock|user|/run/user:|/var/run:||65534|lock|user|700 {UID} {UID}");
    let mut found = lines[..lines.len() - 1].to_vec();
    found[2..].sort_unstable();
    let mut wanted: Vec<_> = expected.split('|').collect();
    let last = wanted.pop();
    wanted[2..].sort_unstable();
    assert_eq!(found, wanted, "{said}");
    assert_eq!(lines.last().copied(), last, "{said}");
}

fn open_socket(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).expect("binds");
    fs::set_permissions(path, Permissions::from_mode(0o666)).expect("permissions");
    listener
}

fn sockets_of_the_host(world: &World) {
    let connect = |path: &Path| {
        let output = world.probe(&format!("connect:{}", path.display()));
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    };
    // Where the session sees the host's files: at work here, in a home or below /var elsewhere.
    let host = world.dir().join("work/host.sock");
    let listener = open_socket(&host);
    assert_eq!(connect(&host), "errno Some(111)");
    drop(listener);
    let below_var = own(world, "/var", "sock");
    let listener = open_socket(&below_var);
    assert_eq!(connect(&below_var), "errno Some(111)");
    assert_eq!(
        connect(
            &Path::new("/proc/self/root").join(below_var.strip_prefix("/").expect("is absolute"))
        ),
        "errno Some(111)"
    );
    drop(listener);
    fs::remove_file(&below_var).expect("removes");
    let run = own(world, "/run", "sock");
    let listener = open_socket(&run);
    assert_eq!(connect(&run), "errno Some(2)");
    drop(listener);
    fs::remove_file(&run).expect("removes");
    // What the operator allows, and what is the session's own.
    let allowed = world.dir().join("allowed.sock");
    let _listener = open_socket(&allowed);
    assert_eq!(connect(&allowed), "works");
    fs::remove_file(&allowed).expect("removes");
    let output = world.probe("own-socket");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "works\n");
}

/// From Linux 7.1 on Landlock refuses those, too; before, they are what SECURITY.md says of them.
fn later_sockets_of_the_host(world: &World) {
    // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h.
    const VERSION: u32 = 1;
    // SAFETY: asks for the version, with no ruleset.
    let landlock = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    let path = world.dir().join("work/later.sock");
    let program = world.dir().join("launch");
    let probe = format!("connect-later:{}", path.display());
    let mut client = world
        .client(&[program.to_str().expect("UTF-8"), "probe", &probe])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(client.stdout.take().expect("is piped")).lines();
    let mut line = || lines.next().expect("a line").expect("reads");
    assert_eq!(line(), "ready");
    // Complete before it has its name.
    let unfinished = world.dir().join("work/unfinished.sock");
    let _listener = open_socket(&unfinished);
    fs::rename(&unfinished, &path).expect("renames");
    let expected = if landlock >= 9 {
        "errno Some(13)"
    } else {
        "works"
    };
    assert_eq!(line(), expected, "Landlock {landlock}");
    client.wait().expect("ends");
    fs::remove_file(&path).expect("removes");
}

fn own_views_of_the_kernel(world: &World) {
    let cgroups = world.says("cat /proc/self/cgroup");
    assert!(
        cgroups.lines().all(|line| line.ends_with(":/")),
        "{cgroups}"
    );
    let procs = world.says("cat /sys/fs/cgroup/cgroup.procs");
    assert!(procs.contains("1\n2\n"), "only the session's own: {procs}");
    for denied in [
        "mkdir /sys/fs/cgroup/child",
        "echo 0 > /sys/fs/cgroup/cgroup.procs",
        "echo max > /sys/fs/cgroup/pids.max",
        "cat /proc/kcore",
        "echo b > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "ls /sys/fs/bpf/* /sys/kernel/debug/* /sys/kernel/tracing/* /dev/mqueue/*",
        "dmesg",
    ] {
        assert!(!world.sh(denied).status.success(), "{denied}");
    }
    assert_eq!(world.says("cat /proc/keys /proc/key-users"), "");
    assert_eq!(world.says("ls /sys/class/net"), "lo\n");
    let mounts = world.says("cat /proc/self/mountinfo");
    let of = |kind: &str| mounts.matches(&format!(" - {kind} ")).count();
    assert_eq!(
        (
            of("cgroup"),
            of("cgroup2"),
            of("bpf"),
            of("debugfs"),
            of("tracefs")
        ),
        (0, 1, 0, 0, 0),
        "{mounts}"
    );
}

fn no_cores(world: &World) {
    let limit = "grep 'Max core file size' /proc/self/limits | tr -s ' '";
    let expected = "Max core file size 1 1 bytes \n";
    assert_eq!(world.says(limit), expected);
    // Programs that guard secrets take pains to set it; they are told that they have.
    for set in [
        "ulimit -c 0",
        "ulimit -S -c unlimited",
        "ulimit -c unlimited",
    ] {
        assert_eq!(
            world.says(&format!("bash -c '{set}'; {limit}")),
            expected,
            "{set}"
        );
        assert_eq!(world.says(&format!("{set}; {limit}")), expected, "{set}");
    }
    // Others are the session's to lower.
    assert_eq!(world.says("ulimit -n 99; ulimit -n"), "99\n");
}

/// Where version 1 hierarchies have the controllers, a session has no limits: `launch::enable_controllers` says so.
fn limits_of_a_session(world: &World) {
    let missing = world.missing_controllers();
    let there = |file: &str| {
        world
            .sh(&format!("test -e /sys/fs/cgroup/{file}"))
            .status
            .success()
    };
    for (controller, file) in [("pids", "pids.max"), ("memory", "memory.max")] {
        assert_eq!(
            there(file),
            !missing.contains(&controller),
            "{controller}, missing: {missing:?}"
        );
    }
    if !missing.contains(&"pids") {
        assert_eq!(world.says("cat /sys/fs/cgroup/pids.max"), "64\n");
        let start = |count| {
            world.sh(&format!(
                "for i in $(seq {count}); do sleep 0.1 & done; wait"
            ))
        };
        assert!(start(30).status.success());
        assert!(!start(100).status.success(), "more than 64 processes");
    }
    if !missing.contains(&"memory") {
        assert_eq!(world.says("cat /sys/fs/cgroup/memory.max"), "268435456\n");
        assert!(
            !world
                .sh("head -c 400M /dev/zero | tail -c 400M | wc -c")
                .status
                .success()
        );
    }
}

/// Programs that start something elsewhere, or as somebody else. Those that are not installed are not to be found.
fn helpers_lead_nowhere(world: &World) {
    let mark = world.dir().join("work/escaped");
    let leave = format!("sh -c 'id -u > {}'", mark.display());
    for helper in [
        format!("su root -c \"{leave}\" < /dev/null"),
        format!("sudo -n {leave}"),
        format!("pkexec {leave}"),
        format!("systemd-run {leave}"),
        format!("systemd-run --user {leave}"),
        format!("systemd-run --wait --pipe {leave}"),
        "loginctl list-sessions".to_owned(),
        "machinectl list".to_owned(),
        "busctl list".to_owned(),
        "systemctl status".to_owned(),
        format!(
            "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=2 localhost \"{leave}\""
        ),
        format!("echo '* * * * * {}' | crontab -", leave.replace('\'', "")),
        format!("echo \"{leave}\" | at now"),
        "newuidmap $$ 0 0 1".to_owned(),
        format!("unshare -U -r {leave}"),
        format!("unshare -n {leave}"),
        format!("nsenter -t 1 -n {leave}"),
        format!("chroot /proc/1/root {leave}"),
        "fusermount3 -u /tmp".to_owned(),
        "mount -t tmpfs none /tmp".to_owned(),
    ] {
        let output = world.sh(&helper);
        assert!(!output.status.success(), "{helper}: {output:?}");
        assert!(
            !mark.exists(),
            "{helper} has left {:?}",
            fs::read_to_string(&mark)
        );
    }
    assert_eq!(
        world.says(&format!("{leave}; cat {}", mark.display())),
        format!("{UID}\n")
    );
    fs::remove_file(mark).expect("removes");
}
