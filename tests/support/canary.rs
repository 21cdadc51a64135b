//! A canary on the host: whoever gets out of a sandbox can reach it, and it sings.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Context as _;

/// A listener on TCP and UDP, on an address of this host that is not loopback.
#[derive(Debug)]
pub struct Canary {
    address: SocketAddr,
    visits: Arc<AtomicU32>,
}

impl Canary {
    /// Starts one; its threads live as long as the process.
    ///
    /// # Errors
    /// When this host has no address but loopback.
    pub fn start() -> anyhow::Result<Self> {
        let ip = own_address().context("needs an IPv4 address that is not loopback")?;
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let udp = UdpSocket::bind(address)?;
        let visits = Arc::new(AtomicU32::new(0));
        let (by_tcp, by_udp) = (visits.clone(), visits.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                by_tcp.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"CANARY");
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                by_udp.fetch_add(1, Ordering::SeqCst);
                let _ = udp.send_to(b"CANARY", from);
            }
        });
        Ok(Self { address, visits })
    }

    /// Where it sits.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was reached.
    #[must_use]
    pub fn visits(&self) -> u32 {
        self.visits.load(Ordering::SeqCst)
    }
}

/// The source address that a packet to elsewhere would have; none is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}
