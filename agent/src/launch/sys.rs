//! The system calls that neither std nor nix wraps.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use nix::{
    sys::{
        signal::{SigHandler, Signal},
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::Pid,
};

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; libc's constant has lost its bits to a 32-bit type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The most descriptors one `SCM_RIGHTS` message carries (`SCM_MAX_FD` of `net/scm.h`).
const SCM_MAX_FD: usize = 253;

/// Turns the C convention (-1 and errno) into a result.
fn check<T: PartialEq + From<i8>>(returned: T) -> io::Result<T> {
    if returned == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// Where `clone3` returned.
pub enum Cloned {
    /// In the parent, with the child's process id.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Forks a child into a PID namespace of its own (where it is process 1) and into a cgroup, in one step (Linux 5.7).
///
/// # Safety
/// The process must have one thread only: the child runs arbitrary code afterwards.
///
/// # Errors
/// What clone3(2) says.
pub unsafe fn clone_into(cgroup: BorrowedFd<'_>) -> io::Result<Cloned> {
    // SAFETY: all zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP | libc::CLONE_NEWPID as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: args is a clone_args of the size given; without CLONE_VM this is a fork, which the caller vouches for.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    })?;
    Ok(match pid {
        0 => Cloned::Child,
        pid => Cloned::Parent(Pid::from_raw(pid as i32)),
    })
}

/// A descriptor that is readable once a child has ended (Linux 5.3). Close-on-exec.
///
/// # Errors
/// What pidfd_open(2) says.
pub fn pidfd_open(child: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes no memory.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Closes every descriptor from `first` on (Linux 5.9).
///
/// # Safety
/// No object of this process may use one of them afterwards.
///
/// # Errors
/// What close_range(2) says.
pub unsafe fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: takes no memory; the caller vouches for the descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) }).map(drop)
}

/// Sends bytes with descriptors attached. Returns how many bytes went.
///
/// # Errors
/// What sendmsg(2) says.
pub fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    Ok(sendmsg::<()>(
        socket.as_raw_fd(),
        &[io::IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?)
}

/// Receives bytes and every descriptor that came with them, all close-on-exec.
///
/// Not nix's `recvmsg`: that hands none out when the kernel could not install them all, and those it did stay open.
///
/// # Errors
/// What recvmsg(2) says; `InvalidData` when descriptors were lost on the way (too many open files).
pub fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    // CMSG_SPACE(SCM_MAX_FD * 4) and room to spare, aligned for cmsghdr.
    let mut control = [0_u64; (SCM_MAX_FD * 4 + 64) / 8];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: header points to buffers that live through the call, with their true sizes.
    let length = check(unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC)
    })?;

    let mut fds = Vec::new();
    // SAFETY: header was filled by recvmsg; the CMSG macros stay within msg_control.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS
            {
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                let bytes = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / size_of::<RawFd>() {
                    // The kernel installed it for us: nobody else owns it.
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were lost: too many open files",
        ));
    }
    Ok((length as usize, fds))
}

/// The supplementary groups of a Unix socket's peer, as they were when it connected (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// What getsockopt(2) says.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX of linux/limits.h
    let mut groups = vec![0_u32; 65536];
    let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
    // SAFETY: groups has room for `length` bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    groups.truncate(length as usize / size_of::<u32>());
    Ok(groups)
}

/// A resource, its soft and its hard limit, as setrlimit(2) takes them.
pub type Limit = (u32, u64, u64);

/// The resources there are: 0 to `RLIMIT_RTTIME` (`asm-generic/resource.h`).
const RESOURCES: std::ops::RangeInclusive<u32> = 0..=libc::RLIMIT_RTTIME;

/// The caller's own resource limits, by resource.
///
/// # Errors
/// What prlimit(2) says.
pub fn own_limits() -> io::Result<Vec<Limit>> {
    RESOURCES
        .map(|resource| {
            // SAFETY: all zero is a valid rlimit64.
            let mut limit: libc::rlimit64 = unsafe { mem::zeroed() };
            // SAFETY: reads into `limit`, sets nothing.
            check(unsafe { libc::prlimit64(0, resource, ptr::null(), &raw mut limit) })?;
            Ok((resource, limit.rlim_cur, limit.rlim_max))
        })
        .collect()
}

/// Sets one of the caller's own resource limits.
///
/// # Errors
/// What prlimit(2) says.
pub fn set_limit((resource, soft, hard): Limit) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is read only.
    check(unsafe { libc::prlimit64(0, resource, &raw const limit, ptr::null_mut()) }).map(drop)
}

/// Takes a capability out of the bounding set. False when the kernel knows no such capability.
///
/// # Errors
/// What prctl(2) says, without `CAP_SETPCAP` above all.
pub fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    // SAFETY: takes no memory.
    match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps only `kept` (a bit mask) in the effective and permitted sets; empties the inheritable and the ambient set.
///
/// # Errors
/// What capset(2) says.
pub fn keep_capabilities(kept: u32) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: two words of 32 capabilities.
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let word = |bits| Data {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    };
    let data = [word(kept), word(0)];
    // SAFETY: takes no memory.
    check(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    })?;
    // SAFETY: header and data have the layout version 3 asks for, and are only read.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Makes a terminal the controlling terminal of the caller, a session leader without one. Never takes it from others.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// The device a terminal descriptor stands for, behind `/dev/tty` too. None when it is no terminal.
pub fn terminal_device(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut device = 0_u32;
    // SAFETY: TIOCGDEV writes one unsigned int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGDEV, &raw mut device) })
        .ok()
        .map(|_| device)
}

/// A terminal's window size.
///
/// # Errors
/// What ioctl(2) says.
pub fn window_size(terminal: BorrowedFd<'_>) -> io::Result<libc::winsize> {
    // SAFETY: all zero is a valid winsize.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// Sets a terminal's window size; its foreground process group is told with `SIGWINCH`.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: libc::winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Sets loopback up, with a second address, in the caller's network namespace.
///
/// # Errors
/// What socket(2) and ioctl(2) say.
pub fn loopback_up() -> io::Result<()> {
    // Not bound: the unit lets the launcher bind nothing but a session's listeners (SocketBindDeny=, where systemd is built with BPF).
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    let mut up = interface(b"lo");
    up.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq with a terminated name and its flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const up) })?;

    let mut second = interface(b"lo:1");
    second.ifr_ifru.ifru_addr = address(SECOND_LOOPBACK);
    // SAFETY: SIOCSIFADDR reads one ifreq with a terminated name and its address.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const second) })
        .map(drop)
}

/// glibc's getaddrinfo with AI_ADDRCONFIG finds no IPv4 addresses on a host that has none but 127.0.0.1 itself.
const SECOND_LOOPBACK: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 2);

fn interface(name: &[u8]) -> libc::ifreq {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

fn address(ip: std::net::Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(ip).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes, and any bytes are a valid sockaddr.
    unsafe { mem::transmute(address) }
}

/// Makes `fd` the descriptor `number`, close-on-exec, replacing what was there.
///
/// # Panics
/// When the kernel refuses, which it does only for a number over the limit.
pub fn move_to(fd: OwnedFd, number: RawFd) -> OwnedFd {
    if fd.as_raw_fd() == number {
        return fd;
    }
    // SAFETY: takes no memory.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) })
        .expect("the descriptor's number is below the limit");
    // SAFETY: dup3 has just made it, closing what was there.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Gives a signal its default effect again (SIGPIPE has none in a Rust program).
pub fn reset_disposition(signal: Signal) {
    // SAFETY: sets no handler. Fails only for SIGKILL and SIGSTOP, which have no other effect.
    let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
}

/// Gives every signal its default effect again, those that glibc keeps for itself and hides included.
pub fn reset_all_dispositions() {
    // The kernel's own struct sigaction (handler, flags, restorer, mask), all zero: SIG_DFL.
    let default = [0_u64; 4];
    for signal in 1..=64_i64 {
        // SAFETY: reads 32 bytes, sets no handler. Fails only for SIGKILL and SIGSTOP.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u8>(),
                size_of::<u64>(),
            )
        };
    }
}
