//! The network namespace of a session, and Holdpoint's listeners in it.
//!
//! One of its own has nothing but loopback, and the listeners are where they always are. In the host's there are several sessions, so each has
//! ports of its own. (Not addresses: of IPv6 loopback there is only one.) Nobody else may be taken for a listener there: the daemon tells the
//! kernel which sockets they are.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use nix::sys::socket::{Backlog, listen};
use serde::{Deserialize, Serialize};

use super::{DNS_PORT, PROXY_PORT, message::Service, sys};
use crate::kernel::{self, HOST_PORTS, SessionPorts, SessionRules};

/// What a proxy must take before it comes to accept: an agent's build opens connections by the hundred.
const BACKLOG: i32 = 4096;

/// The network namespace a session's processes are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// One of its own, with nothing but loopback.
    #[default]
    Own,
    /// The host's, where the BPF programs alone keep them in.
    Host,
}

/// Where a session's processes and Holdpoint's listeners for them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Whose loopback the listeners are on, at 127.0.0.1 and, where the kernel has IPv6, ::1.
    pub network: Network,
    /// The proxy's port.
    pub proxy: u16,
    /// The resolver's port.
    pub dns: u16,
}

impl Place {
    const OWN: Self = Self {
        network: Network::Own,
        proxy: PROXY_PORT,
        dns: DNS_PORT,
    };

    /// What the kernel is told of it.
    #[must_use]
    pub fn rules(self) -> SessionRules {
        SessionRules {
            ports: SessionPorts {
                proxy: self.proxy,
                dns: self.dns,
            },
            network: match self.network {
                Network::Own => kernel::Network::Own,
                Network::Host => kernel::Network::Host,
            },
        }
    }

    /// The places in the host's network, of which each takes two ports.
    fn in_the_host_s() -> impl Iterator<Item = Self> {
        let (first, last) = HOST_PORTS;
        (first..last).step_by(2).map(|proxy| Self {
            network: Network::Host,
            proxy,
            dns: proxy + 1,
        })
    }
}

/// As before there was a choice.
impl Default for Place {
    fn default() -> Self {
        Self::OWN
    }
}

/// Opens all listeners in the caller's network namespace, which is new if it is to be the session's own.
///
/// # Errors
/// When one cannot be opened, IPv6 ones excepted where the kernel has no IPv6; when all ports of the host's for it are in use.
pub fn open(network: Network) -> anyhow::Result<(Place, Vec<(Service, OwnedFd)>)> {
    if network == Network::Own {
        sys::loopback_up().context("cannot set the session's loopback interface up")?;
        return Ok((Place::OWN, listeners(Place::OWN)?));
    }
    for place in Place::in_the_host_s() {
        match listeners(place) {
            Err(error) if is_in_use(&error) => {}
            opened => return Ok((place, opened?)),
        }
    }
    let (first, last) = HOST_PORTS;
    anyhow::bail!("the ports {first} to {last} of the host's loopback are all in use")
}

/// Opens the listeners of a place in the caller's network namespace.
///
/// # Errors
/// As [`open`]; also when a port is in use.
pub fn listeners(place: Place) -> anyhow::Result<Vec<(Service, OwnedFd)>> {
    let mut listeners = Vec::new();
    for service in [Service::Proxy, Service::DnsTcp, Service::DnsUdp] {
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            match listener(service, address, place) {
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

/// Whether a port is somebody's.
pub fn is_in_use(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn listener(service: Service, address: IpAddr, place: Place) -> io::Result<OwnedFd> {
    match service {
        Service::Proxy => tcp(address, place.proxy),
        Service::DnsTcp => tcp(address, place.dns),
        Service::DnsUdp => UdpSocket::bind((address, place.dns)).map(OwnedFd::from),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_hosts_network_share_no_port() {
        let places: Vec<_> = Place::in_the_host_s().collect();
        let mut ports: Vec<_> = places.iter().flat_map(|it| [it.proxy, it.dns]).collect();
        assert!(ports.len() >= 1000);
        ports.dedup();
        assert_eq!(ports.len(), places.len() * 2);
        assert!(
            ports
                .iter()
                .all(|port| (HOST_PORTS.0..=HOST_PORTS.1).contains(port))
        );
    }
}
