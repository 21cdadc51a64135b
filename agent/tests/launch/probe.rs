//! What sandboxed commands try.

use std::{io::Error, process::ExitCode};

/// Tries something and prints what came of it.
pub fn main(name: &str) -> ExitCode {
    match name {
        "families" => families(),
        "calls" => calls(),
        "x32" => x32(),
        "i386" => i386(),
        "typing" => typing(),
        "own-socket" => own_socket(),
        _ => match name.split_once(':') {
            Some(("connect", path)) => connect(path),
            Some(("connect-later", path)) => connect_later(path),
            _ => panic!("no such probe: {name}"),
        },
    }
    ExitCode::SUCCESS
}

fn outcome(returned: i64) -> String {
    match (returned, Error::last_os_error().raw_os_error()) {
        (-1, Some(libc::EAFNOSUPPORT)) => "EAFNOSUPPORT".into(),
        (-1, Some(libc::ENOSYS)) => "ENOSYS".into(),
        (-1, Some(libc::EPERM)) => "EPERM".into(),
        (-1, errno) => format!("errno {errno:?}"),
        _ => "works".into(),
    }
}

fn families() {
    let attempts = [
        ("unix", libc::AF_UNIX as i64, libc::SOCK_STREAM, 0),
        ("inet", libc::AF_INET as i64, libc::SOCK_STREAM, 0),
        ("inet6", libc::AF_INET6 as i64, libc::SOCK_STREAM, 0),
        (
            "netlink route",
            libc::AF_NETLINK as i64,
            libc::SOCK_RAW,
            libc::NETLINK_ROUTE,
        ),
        (
            "netlink audit",
            libc::AF_NETLINK as i64,
            libc::SOCK_RAW,
            libc::NETLINK_AUDIT,
        ),
        ("packet", libc::AF_PACKET as i64, libc::SOCK_RAW, 0),
        ("vsock", libc::AF_VSOCK as i64, libc::SOCK_STREAM, 0),
        ("alg", libc::AF_ALG as i64, libc::SOCK_SEQPACKET, 0),
        ("xdp", libc::AF_XDP as i64, libc::SOCK_RAW, 0),
        // The kernel takes an int: the upper half must make no difference.
        (
            "packet in 64 bits",
            libc::AF_PACKET as i64 | 1 << 32,
            libc::SOCK_RAW,
            0,
        ),
    ];
    for (name, family, kind, protocol) in attempts {
        // SAFETY: takes no memory.
        let made = unsafe {
            libc::syscall(
                libc::SYS_socket,
                family,
                i64::from(kind),
                i64::from(protocol),
            )
        };
        println!("{name}: {}", outcome(made));
    }
    let mut pair = [0_i32; 2];
    for (name, family) in [("unix pair", libc::AF_UNIX), ("tipc pair", 30)] {
        // SAFETY: pair has room for two descriptors.
        let made = unsafe { libc::socketpair(family, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) };
        println!("{name}: {}", outcome(made.into()));
    }
}

fn calls() {
    let attempts = [
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("clone3", libc::SYS_clone3),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("mount", libc::SYS_mount),
        ("fsopen", libc::SYS_fsopen),
        ("setns", libc::SYS_setns),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("finit_module", libc::SYS_finit_module),
        ("open_tree_attr", 467),
        ("syslog", libc::SYS_syslog),
        ("quotactl", libc::SYS_quotactl),
        ("reboot", libc::SYS_reboot),
        ("chroot", libc::SYS_chroot),
    ];
    for (name, number) in attempts {
        // SAFETY: null pointers and zeros; the kernel reads no memory through them.
        let done = unsafe { libc::syscall(number, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
        println!("{name}: {}", outcome(done));
    }
    // SAFETY: takes no memory.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    println!("a user namespace: {}", outcome(unshared.into()));
    let byte = b'x';
    // SAFETY: TIOCSTI reads one byte.
    let typed = unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const byte) };
    println!("TIOCSTI: {}", outcome(typed.into()));
}

fn connect(path: &str) {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => println!("works"),
        Err(error) => println!("errno {:?}", error.raw_os_error()),
    }
}

/// To one that is made after the session.
fn connect_later(path: &str) {
    println!("ready");
    while !std::path::Path::new(path).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    connect(path);
}

/// One that another process of the session connects to.
fn own_socket() {
    let path = "/tmp/own.sock";
    let _listener = std::os::unix::net::UnixListener::bind(path).expect("binds");
    let program = std::env::args().next().expect("a name");
    let connected = std::process::Command::new(program)
        .args(["probe", &format!("connect:{path}")])
        .status();
    assert!(connected.expect("runs").success());
}

/// getpid by x32's numbers.
fn x32() {
    // SAFETY: takes no memory.
    unsafe { libc::syscall(0x4000_0000 | 39) };
    println!("survived");
}

/// getpid by i386's numbers.
fn i386() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: getpid takes no argument and clobbers nothing but eax.
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") 20 => _, options(nostack));
    }
    println!("survived");
}

/// Types a line into the terminal, as if its user had.
fn typing() {
    for byte in b"exit\n" {
        // SAFETY: TIOCSTI reads one byte.
        let typed = unsafe { libc::ioctl(0, libc::TIOCSTI, byte) };
        println!("{}", outcome(typed.into()));
    }
}
