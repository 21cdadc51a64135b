//! System calls that lead past what is watched, or into the kernel itself.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{Attack, Scene, check, lacking_if, succeed};

pub const ATTACKS: &[Attack] = &[
    succeed("io-uring", "io_uring: sockets without system calls", |_| {
        let mut parameters = [0_u8; 120];
        // SAFETY: reads and writes one io_uring_params, which has 120 bytes.
        check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) })
            .map(drop)
            .map_err(|error| lacking_if("/proc/sys/kernel/io_uring_disabled", "2", error))
    }),
    succeed("int80", "system calls by i386's numbers", |_| int80()),
    succeed("x32", "system calls by x32's numbers", |_| x32()),
    succeed("keyring", "the kernel's keyrings", |_| {
        // SAFETY: reads terminated strings and one byte; the keyring is this process's own.
        check(unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"user".as_ptr(),
                c"holdpoint-doctor".as_ptr(),
                c"x".as_ptr(),
                1,
                KEY_SPEC_PROCESS_KEYRING,
            )
        })
        .map(drop)
    }),
    succeed("keyctl", "the user's keyring", |_| {
        // KEYCTL_GET_KEYRING_ID, without making one.
        // SAFETY: takes no memory.
        check(unsafe { libc::syscall(libc::SYS_keyctl, 0, KEY_SPEC_SESSION_KEYRING, 1) }).map(drop)
    }),
    succeed("bpf", "a BPF map", |_| {
        // Maps are locked memory before Linux 5.11; who may not have more has what there is.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        // BPF_MAP_CREATE of an array of one 4-byte value: type, key size, value size, entries.
        let attributes = [2_u32, 4, 4, 1];
        // SAFETY: reads 16 bytes.
        check(unsafe {
            libc::syscall(
                libc::SYS_bpf,
                0,
                attributes.as_ptr(),
                size_of_val(&attributes),
            )
        })
        .map(drop)
    }),
    succeed("perf", "performance counters", |_| {
        // PERF_TYPE_SOFTWARE, PERF_ATTR_SIZE_VER0, PERF_COUNT_SW_TASK_CLOCK.
        let mut attributes = [0_u64; 8];
        attributes[0] = 64 << 32 | 1;
        attributes[1] = 1;
        // SAFETY: reads 64 bytes.
        check(unsafe {
            libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0)
        })
        .map(drop)
    }),
    succeed(
        "userfaultfd",
        "userfaultfd: the kernel, stopped at will",
        |_| {
            // UFFD_USER_MODE_ONLY is for everybody, where the kernel knows it (5.11).
            // SAFETY: takes no memory.
            check(unsafe { libc::syscall(libc::SYS_userfaultfd, 1) })
                // SAFETY: takes no memory.
                .or_else(|_| check(unsafe { libc::syscall(libc::SYS_userfaultfd, 0) }))
                .map(drop)
        },
    ),
    succeed(
        "file-handle",
        "a file by its handle, whatever is mounted over it",
        |_| file_handle(),
    ),
    succeed("tiocsti", "type into the terminal", tiocsti),
    succeed("tun", "a network interface of one's own", |_| tun()),
];

/// Of linux/keyctl.h.
const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
const KEY_SPEC_SESSION_KEYRING: i32 = -3;

/// getpid, which a kernel without the other ABI answers by killing.
#[cfg(target_arch = "x86_64")]
fn int80() -> io::Result<()> {
    let mut answer = 20_i32;
    // SAFETY: getpid takes no argument and changes nothing but eax.
    unsafe { std::arch::asm!("int 0x80", inout("eax") answer, options(nostack)) };
    match answer {
        1.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn int80() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// getpid.
fn x32() -> io::Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: takes no memory.
    check(unsafe { libc::syscall(0x4000_0000 | 39) }).map(drop)
}

fn file_handle() -> io::Result<()> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        handle: [0; 128],
    };
    let mut mount = 0;
    let file = c"/etc/passwd";
    // SAFETY: reads a terminated path, writes one handle of the room it names and one int.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            file.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    })?;
    let root = File::open("/")?;
    // SAFETY: reads the handle.
    check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            &raw mut handle,
            libc::O_RDONLY,
        )
    })
    .map(drop)
}

/// In a terminal made for it: where it works there, it works in the user's.
fn tiocsti(_: &Scene) -> io::Result<()> {
    // A terminal that goes away hangs up on its leader.
    // SAFETY: sets no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    // SAFETY: opens a device.
    let leader = check(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
    // SAFETY: the kernel has just made it.
    let leader = unsafe { OwnedFd::from_raw_fd(leader) };
    // SAFETY: takes no memory.
    check(unsafe { libc::unlockpt(leader.as_raw_fd()) })?;
    // SAFETY: takes integers. TIOCGPTPEER opens the other end.
    let follower = check(unsafe {
        libc::ioctl(
            leader.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY,
        )
    })?;
    // SAFETY: takes an integer. This process leads a session without a terminal.
    check(unsafe { libc::ioctl(follower, libc::TIOCSCTTY, 0) })?;
    let byte = b'x';
    // SAFETY: reads one byte.
    check(unsafe { libc::ioctl(follower, libc::TIOCSTI, &raw const byte) }).map(drop)
}

fn tun() -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/net/tun");
    let device = device.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => io::Error::from_raw_os_error(libc::ENODEV),
        _ => error,
    })?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = libc::IFF_TUN as libc::c_short;
    // SAFETY: reads and writes one ifreq.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map(drop)
}
