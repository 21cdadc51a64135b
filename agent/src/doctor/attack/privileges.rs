//! System calls that are root's. Those that would change the host are made with an argument that makes no sense: what counts
//! is whether the kernel gets as far as to look at it.

use std::{io, os::fd::AsRawFd as _};

use nix::{
    sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg},
    unistd::Pid,
};

use super::{Attack, Scene, check, no, succeed, victim::SECRET};

pub const ATTACKS: &[Attack] = &[
    succeed("kexec", "boot another kernel", |_| {
        // No flag is 0xff.
        // SAFETY: no segments are read.
        looked_at(libc::EINVAL, unsafe {
            libc::syscall(libc::SYS_kexec_load, 0, 0, std::ptr::null::<u8>(), 0xff)
        })
    }),
    succeed("module-load", "load a kernel module", |_| {
        // SAFETY: reads a terminated string.
        looked_at(libc::EBADF, unsafe {
            libc::syscall(libc::SYS_finit_module, -1, c"".as_ptr(), 0)
        })
    }),
    succeed("module-remove", "remove a kernel module", |_| {
        // SAFETY: reads a terminated string.
        looked_at(libc::ENOENT, unsafe {
            libc::syscall(
                libc::SYS_delete_module,
                c"no-such-module".as_ptr(),
                libc::O_NONBLOCK,
            )
        })
    }),
    succeed("reboot", "restart the host", |_| {
        // Without its magic numbers (reboot(2)).
        // SAFETY: takes no memory.
        looked_at(libc::EINVAL, unsafe {
            libc::syscall(libc::SYS_reboot, 0, 0, 0, 0)
        })
    }),
    succeed("swap", "a file of one's own as the host's memory", |_| {
        // SAFETY: reads a terminated path.
        looked_at(libc::ENOENT, unsafe {
            libc::syscall(libc::SYS_swapon, c"/no-such-file".as_ptr(), 0)
        })
    }),
    succeed(
        "accounting",
        "a file of one's own for process accounting",
        |_| {
            // SAFETY: reads a terminated path.
            looked_at(libc::ENOENT, unsafe {
                libc::syscall(libc::SYS_acct, c"/no-such-file".as_ptr())
            })
        },
    ),
    succeed("kernel-log", "the kernel's log", |_| {
        let mut log = [0_u8; 64];
        /// `SYSLOG_ACTION_READ_ALL` of syslog(2).
        const READ_ALL: i32 = 3;
        // SAFETY: writes at most 64 bytes.
        check(unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), 64) }).map(drop)
    }),
    succeed("domain-name", "rename the host's domain", |_| {
        // The empty name that it has on most hosts would change another's.
        let mut name = [0_u8; 64];
        // SAFETY: both read or write at most 64 bytes.
        check(unsafe { libc::getdomainname(name.as_mut_ptr().cast(), 64) })?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(64);
        // SAFETY: as above.
        check(unsafe { libc::setdomainname(name.as_ptr().cast(), length) }).map(drop)
    }),
    #[cfg(target_arch = "x86_64")]
    succeed("io-ports", "the processor's ports", |_| {
        // The port of POST codes. Permission only, and of this process alone.
        // SAFETY: takes no memory.
        check(unsafe { libc::ioperm(0x80, 1, 1) }).map(drop)
    }),
    succeed("scm-credentials", "pass for root on a socket", credentials),
    succeed("kcmp", "compare what another process has open", |scene| {
        let (own, other) = (std::process::id(), scene.plan.victim.pid);
        /// `KCMP_VM` of linux/kcmp.h.
        const KCMP_VM: i32 = 1;
        // SAFETY: takes no memory.
        check(unsafe { libc::syscall(libc::SYS_kcmp, own, other, KCMP_VM, 0, 0) }).map(drop)
    }),
    succeed("vm-write", "write to another process's memory", |scene| {
        let mut secret = *SECRET;
        let local = libc::iovec {
            iov_base: secret.as_mut_ptr().cast(),
            iov_len: secret.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(scene.plan.victim.secret_at),
            iov_len: secret.len(),
        };
        // What is there already is written once more.
        // SAFETY: reads what is ours; what is not ours is another process's.
        check(unsafe {
            libc::process_vm_writev(
                scene.plan.victim.pid,
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        })
        .map(drop)
    }),
];

/// Whether the kernel complains of the argument, and not of who asks.
fn looked_at(complaint: i32, returned: i64) -> io::Result<()> {
    match check(returned) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(complaint) => Ok(()),
        Err(error) => Err(error),
    }
}

/// unix(7): the kernel checks what a sender says of itself.
fn credentials(scene: &Scene) -> io::Result<()> {
    let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    let root = libc::ucred {
        pid: Pid::this().as_raw(),
        uid: 0,
        gid: 0,
    };
    let line = scene.line();
    let sent = sendmsg::<()>(
        near.as_raw_fd(),
        &[io::IoSlice::new(&line)],
        &[ControlMessage::ScmCredentials(&UnixCredentials::from(root))],
        MsgFlags::empty(),
        None,
    )?;
    (sent == line.len())
        .then_some(())
        .ok_or_else(|| no("not all was sent"))
}
