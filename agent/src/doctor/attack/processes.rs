//! Processes outside, of the same user: their memory, their files, their roots, their lives.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    path::Path,
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid,
};

use super::{
    Attack, Scene, arrive, check, lacking_if, no, succeed,
    victim::{SECRET, VARIABLE, is_secret, pidfd_open, read_secret},
};
use crate::doctor::stage::places::{QUEUE, QUEUES};

pub const ATTACKS: &[Attack] = &[
    succeed("ptrace", "attach to a process outside", |scene| {
        ptrace::seize(pid(scene), ptrace::Options::empty())
            .map_err(|error| lacking_if("/proc/sys/kernel/yama/ptrace_scope", "3", error.into()))
    }),
    succeed("proc-mem", "read its memory through /proc", |scene| {
        let mut bytes = [0; SECRET.len()];
        File::open(proc(scene, "mem"))?
            .read_exact_at(&mut bytes, scene.plan.victim.secret_at as u64)?;
        is_secret(&bytes)
    }),
    succeed(
        "vm-read",
        "read its memory with process_vm_readv(2)",
        |scene| {
            let mut bytes = [0; SECRET.len()];
            let remote = RemoteIoVec {
                base: scene.plan.victim.secret_at,
                len: bytes.len(),
            };
            process_vm_readv(
                pid(scene),
                &mut [io::IoSliceMut::new(&mut bytes)],
                &[remote],
            )?;
            is_secret(&bytes)
        },
    ),
    succeed("proc-fd", "open a file it has open", |scene| {
        read_secret(File::open(proc(scene, "fd/0"))?)
    }),
    arrive("proc-root", "reach a socket through its root", |scene| {
        let socket = proc(scene, "root/run/docker.sock");
        UnixStream::connect(socket)?.write_all(&scene.line())
    }),
    succeed(
        "proc-environ",
        "search all environments for a secret",
        environments,
    ),
    succeed("daemon-memory", "open the daemon's memory", |scene| {
        File::open(format!("/proc/{}/mem", scene.plan.daemon)).map(drop)
    }),
    succeed("daemon-files", "list what the daemon has open", |scene| {
        fs::read_dir(format!("/proc/{}/fd", scene.plan.daemon)).map(drop)
    }),
    succeed("signal", "send it a signal", |scene| {
        // Ignored unless somebody asks for it.
        kill(pid(scene), Signal::SIGURG).map_err(io::Error::from)
    }),
    succeed("pidfd-signal", "the same with a pidfd", |scene| {
        let pidfd = pidfd_open(scene.plan.victim.pid)?;
        // SAFETY: a null siginfo is allowed.
        check(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                libc::SIGURG,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        })
        .map(drop)
    }),
    succeed("pidfd-getfd", "take a descriptor of its own", |scene| {
        let pidfd = pidfd_open(scene.plan.victim.pid)?;
        // SAFETY: takes no memory.
        let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 0, 0) })?;
        // SAFETY: the kernel has just made it.
        read_secret(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }),
    succeed("prlimit", "read its limits", |scene| {
        // SAFETY: all zero is a valid rlimit64.
        let mut limit: libc::rlimit64 = unsafe { std::mem::zeroed() };
        // SAFETY: reads into `limit`, sets nothing.
        check(unsafe {
            libc::prlimit64(
                scene.plan.victim.pid,
                libc::RLIMIT_CORE,
                std::ptr::null(),
                &raw mut limit,
            )
        })
        .map(drop)
    }),
    succeed(
        "shared-memory",
        "attach to its System V shared memory",
        |scene| {
            // SAFETY: takes no memory.
            let segment =
                check(unsafe { libc::shmget(scene.plan.shared_memory, SECRET.len(), 0) })?;
            // SAFETY: attaches where the kernel finds room, for reading.
            let at = unsafe { libc::shmat(segment, std::ptr::null(), libc::SHM_RDONLY) };
            check(at as isize)?;
            // SAFETY: the segment has at least so many bytes, mapped for as long as this process lives.
            is_secret(unsafe { std::slice::from_raw_parts(at.cast(), SECRET.len()) })
        },
    ),
    succeed("message-queue", "open its POSIX message queue", |_| {
        // SAFETY: reads a terminated name.
        check(unsafe { libc::mq_open(QUEUE.as_ptr(), libc::O_RDONLY) }).map(drop)
    }),
    succeed(
        "message-queue-file",
        "the same where message queues are files",
        |_| {
            if !Path::new(QUEUES).exists() {
                return Err(io::Error::from_raw_os_error(libc::ENODEV));
            }
            File::open(format!("{QUEUES}{}", QUEUE.to_string_lossy())).map(drop)
        },
    ),
];

fn pid(scene: &Scene) -> Pid {
    Pid::from_raw(scene.plan.victim.pid)
}

fn proc(scene: &Scene, file: &str) -> String {
    format!("/proc/{}/{file}", scene.plan.victim.pid)
}

fn environments(_: &Scene) -> io::Result<()> {
    for process in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(VARIABLE) {
            return Ok(());
        }
    }
    Err(no("none of the processes to be seen has it"))
}
