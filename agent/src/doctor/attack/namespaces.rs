//! Namespaces: the host's, entered; one's own, made; and what they would allow.

use std::{fs::File, io, process::Command};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use super::{Attack, Scene, check, lacking_if, no, succeed, victim::pidfd_open};
use crate::doctor::stage::places::{SETGID_ID, SETUID_ID};

pub const ATTACKS: &[Attack] = &[
    succeed(
        "setns-net",
        "enter the host's network through /proc",
        |scene| enter(scene, "net"),
    ),
    succeed(
        "setns-mnt",
        "enter the host's mounts through /proc",
        |scene| enter(scene, "mnt"),
    ),
    succeed("setns-pidfd", "enter them with a pidfd", |scene| {
        let pidfd = pidfd_open(scene.plan.victim.pid)?;
        setns(pidfd, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }),
    succeed(
        "new-user-net",
        "a user and a network namespace of one's own",
        |_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(none_at_all),
    ),
    succeed(
        "new-user-mnt",
        "a user and a mount namespace of one's own",
        |_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(none_at_all),
    ),
    succeed("new-user-clone", "the same with clone(2)", |_| {
        clone_new_user()
    }),
    succeed("new-user-clone3", "the same with clone3(2)", |_| {
        clone3_new_user()
    }),
    succeed(
        "mount",
        "a mount, in namespaces of one's own if there are any",
        |_| {
            own_mounts();
            let nothing = None::<&str>;
            mount(
                Some("tmpfs"),
                "/tmp",
                Some("tmpfs"),
                MsFlags::empty(),
                nothing,
            )
            .map_err(io::Error::from)
        },
    ),
    succeed("bind-mount", "another file over the CA bundle", |_| {
        own_mounts();
        let bundle = std::env::var_os("SSL_CERT_FILE").unwrap_or_else(|| "/etc/passwd".into());
        let nothing = None::<&str>;
        mount(
            Some("/dev/null"),
            bundle.as_os_str(),
            nothing,
            MsFlags::MS_BIND,
            nothing,
        )
        .map_err(io::Error::from)
    }),
    succeed("fsopen", "a file system by the newer calls", |_| {
        own_mounts();
        // SAFETY: reads a terminated name.
        check(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) }).map(drop)
    }),
    succeed("setuid", "root by a setuid program", |_| {
        prints(SETUID_ID, "-u", "0")
    }),
    succeed(
        "setgid",
        "a group by a setgid program (crontab, at)",
        |_| prints(SETGID_ID, "-g", "0"),
    ),
];

fn enter(scene: &Scene, namespace: &str) -> io::Result<()> {
    let path = format!("/proc/{}/ns/{namespace}", scene.plan.victim.pid);
    setns(File::open(path)?, CloneFlags::empty()).map_err(io::Error::from)
}

/// As root, of the host's own making; else with all capabilities over them where that is possible. What follows tells.
pub fn own_mounts() {
    let _ = unshare(CloneFlags::CLONE_NEWNS)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS));
    let nothing = None::<&str>;
    let _ = mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    );
}

fn clone_new_user() -> io::Result<()> {
    let flags = i64::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork of a process with one thread; the child only ends.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0_i64, 0_i64, 0_i64, 0_i64) })
        .map_err(none_at_all)?;
    end_if_child(pid)
}

fn clone3_new_user() -> io::Result<()> {
    // SAFETY: all zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWNET) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: as clone(2) above; args is of the size given.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })
        .map_err(none_at_all)?;
    end_if_child(pid)
}

/// ENOSPC: user.max_user_namespaces is 0, for root as well.
fn none_at_all(error: impl Into<io::Error>) -> io::Error {
    lacking_if("/proc/sys/user/max_user_namespaces", "0", error.into())
}

fn end_if_child(pid: i64) -> io::Result<()> {
    if pid == 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Runs a program that tells who it has become.
fn prints(program: &str, option: &str, wanted: &str) -> io::Result<()> {
    let output = Command::new(program).arg(option).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if printed == wanted {
        Ok(())
    } else if printed.is_empty() {
        Err(no("it does not run"))
    } else {
        Err(io::Error::other(format!("it is still {printed}")))
    }
}
