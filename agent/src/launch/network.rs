//! The listeners inside a session's network namespace, which has nothing but loopback.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use nix::sys::socket::{Backlog, listen};

use super::{DNS_PORT, PROXY_PORT, message::Service, sys};

/// What a proxy must take before it comes to accept: an agent's build opens connections by the hundred.
const BACKLOG: i32 = 4096;

/// Sets loopback up in the caller's network namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn loopback() -> anyhow::Result<()> {
    sys::loopback_up().context("cannot set the session's loopback interface up")
}

/// Opens all listeners in the caller's network namespace.
///
/// # Errors
/// When one cannot be opened, IPv6 ones excepted where the kernel has no IPv6.
pub fn listeners() -> anyhow::Result<Vec<(Service, OwnedFd)>> {
    let mut listeners = Vec::new();
    for service in [Service::Proxy, Service::DnsTcp, Service::DnsUdp] {
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            match open(service, address) {
                Ok(listener) => listeners.push((service, listener)),
                Err(error) if address.is_ipv6() && no_ipv6(&error) => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot listen on {address} in the session's network ({service:?})")
                    });
                }
            }
        }
    }
    Ok(listeners)
}

fn open(service: Service, address: IpAddr) -> io::Result<OwnedFd> {
    match service {
        Service::Proxy => tcp(address, PROXY_PORT),
        Service::DnsTcp => tcp(address, DNS_PORT),
        Service::DnsUdp => UdpSocket::bind((address, DNS_PORT)).map(OwnedFd::from),
    }
}

fn tcp(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind((address, port))?;
    // std's queue is 128 long; listening again only changes that.
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}
