//! Sniffers: what passes the interfaces of network namespaces, and what of it should not have.

mod packet;

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use holdpoint::launch::{DNS_PORT, PROXY_PORT};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
};

pub use packet::Packet;

/// Bytes of packets that may wait to be looked at, in each namespace.
static ROOM: libc::c_int = 64 << 20;

/// What may be seen in a namespace.
#[derive(Clone, Debug)]
pub enum Rule {
    /// A host: between processes of its own and these services, over loopback; nothing else.
    Host(Vec<SocketAddr>),
    /// A session: to and from its proxy's and resolver's listeners.
    Session,
}

/// Sniffers in several network namespaces, with one thread that looks at what they see.
#[derive(Debug)]
pub struct Sniffers {
    shared: Arc<Shared>,
    looking: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    sockets: Mutex<HashMap<String, Arc<Sniffer>>>,
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Sniffer {
    socket: OwnedFd,
    rule: Rule,
    name: String,
}

/// What sniffers saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Packets, allowed ones too.
    pub packets: u64,
    /// Packets that nobody may send there, with where that was; the first hundred of them.
    pub strangers: Vec<String>,
    /// Packets that came too fast to be looked at.
    pub missed: u64,
}

impl Sniffers {
    /// Starts with none.
    ///
    /// # Panics
    /// When no thread can be started.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let looking = {
            let shared = shared.clone();
            thread::Builder::new()
                .name("sniffer".into())
                .spawn(move || shared.look())
                .expect("a thread")
        };
        Self {
            shared,
            looking: Some(looking),
        }
    }

    /// Watches all interfaces of this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_here(&self, name: &str, rule: Rule) -> anyhow::Result<()> {
        self.add(name, rule, open().context("cannot open a packet socket")?);
        Ok(())
    }

    /// Watches all interfaces of the network namespace that a process is in.
    ///
    /// # Errors
    /// When it is gone, or the kernel refuses.
    ///
    /// # Panics
    /// Never: the thread does not.
    pub fn watch_process(&self, name: &str, pid: u32, rule: Rule) -> anyhow::Result<()> {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        // In a thread of its own, so that nobody else ends up there.
        let opening = thread::spawn(move || -> anyhow::Result<OwnedFd> {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(open()?)
        });
        let socket = opening.join().expect("no panic");
        self.add(name, rule, socket.context("cannot watch a session")?);
        Ok(())
    }

    fn add(&self, name: &str, rule: Rule, socket: OwnedFd) {
        let sniffer = Sniffer {
            socket,
            rule,
            name: name.to_owned(),
        };
        let mut sockets = self.shared.sockets.lock().expect("no panic while locked");
        sockets.insert(name.to_owned(), Arc::new(sniffer));
    }

    /// Stops watching, after a last look: the namespace can go.
    ///
    /// # Panics
    /// When the sniffers' thread did.
    pub fn forget(&self, name: &str) {
        let sniffer = self
            .shared
            .sockets
            .lock()
            .expect("no panic while locked")
            .remove(name);
        if let Some(sniffer) = sniffer {
            self.shared.drain(&sniffer);
            self.shared.count_missed(&sniffer);
        }
    }

    /// What was seen so far.
    ///
    /// # Panics
    /// When the sniffers' thread did.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared
            .seen
            .lock()
            .expect("no panic while locked")
            .clone()
    }

    /// Ends all of them; what they have seen.
    ///
    /// # Panics
    /// When the sniffers' thread did.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        self.end();
        let names: Vec<_> = {
            let sockets = self.shared.sockets.lock().expect("no panic while locked");
            sockets.keys().cloned().collect()
        };
        for name in names {
            self.forget(&name);
        }
        self.seen()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            looking.join().expect("sniffers do not panic");
        }
    }
}

impl Drop for Sniffers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn look(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let sniffers: Vec<_> = {
                let sockets = self.sockets.lock().expect("no panic while locked");
                sockets.values().cloned().collect()
            };
            let mut interests: Vec<_> = sniffers
                .iter()
                .map(|it| {
                    use std::os::fd::AsFd as _;
                    PollFd::new(it.socket.as_fd(), PollFlags::POLLIN)
                })
                .collect();
            let _interrupted = poll(&mut interests, PollTimeout::from(50_u8));
            let ready: Vec<bool> = interests
                .iter()
                .map(|it| it.any().unwrap_or_default())
                .collect();
            for (sniffer, _) in sniffers.iter().zip(ready).filter(|(_, ready)| *ready) {
                self.drain(sniffer);
            }
        }
    }

    fn drain(&self, sniffer: &Sniffer) {
        let mut bytes = [0; 256];
        while let Ok((length, interface)) = receive(&sniffer.socket, &mut bytes) {
            let packet = Packet::read(&bytes[..length]);
            let mut seen = self.seen.lock().expect("no panic while locked");
            seen.packets += 1;
            if !sniffer.rule.allows(&packet, interface) && seen.strangers.len() < 100 {
                let stranger = format!("{}, interface {interface}: {packet}", sniffer.name);
                seen.strangers.push(stranger);
            }
        }
    }

    fn count_missed(&self, sniffer: &Sniffer) {
        let missed = missed(&sniffer.socket).expect("the kernel counts packets");
        self.seen.lock().expect("no panic while locked").missed += u64::from(missed);
    }
}

impl Rule {
    fn allows(&self, packet: &Packet, interface: i32) -> bool {
        /// The first interface of every namespace.
        const LOOPBACK: i32 = 1;
        match (self, packet) {
            (_, Packet::Undelivered(packet)) => self.allows(packet, interface),
            (Self::Host(_), Packet::Groups) => true,
            (Self::Host(services), Packet::Tcp(from, to)) => {
                interface == LOOPBACK && (services.contains(from) || services.contains(to))
            }
            (Self::Session, Packet::Tcp(from, to)) => {
                let ours = |end: &SocketAddr| [PROXY_PORT, DNS_PORT].contains(&end.port());
                between_loopback(from, to) && (ours(from) || ours(to))
            }
            (Self::Session, Packet::Udp(from, to)) => {
                between_loopback(from, to) && (from.port() == DNS_PORT || to.port() == DNS_PORT)
            }
            _ => false,
        }
    }
}

fn between_loopback(from: &SocketAddr, to: &SocketAddr) -> bool {
    from.ip().is_loopback() && to.ip().is_loopback()
}

/// A packet socket for all protocols and interfaces, without link headers (packet(7)).
fn open() -> io::Result<OwnedFd> {
    let all = libc::c_int::from((libc::ETH_P_ALL as u16).to_be());
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, all) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the option is an int, and the pointer is to one.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const ROOM).cast(),
            size_of_val(&ROOM) as libc::socklen_t,
        )
    };
    match set {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One packet, cut off at the end of `bytes`, and the index of its interface.
fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, i32)> {
    // SAFETY: all zero is a valid address.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut size = size_of_val(&from) as libc::socklen_t;
    // SAFETY: both buffers are of the sizes given.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    match usize::try_from(length) {
        Ok(length) => Ok((length, from.sll_ifindex)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// How many packets there was no room for, since this was last asked.
fn missed(socket: &OwnedFd) -> io::Result<u32> {
    /// Of linux/if_packet.h.
    const PACKET_STATISTICS: libc::c_int = 6;
    // struct tpacket_stats: packets, and drops.
    let mut counts = [0_u32; 2];
    let mut size = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the option is of the structure that the pointer is to.
    let told = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    match told {
        0 => Ok(counts[1]),
        _ => Err(io::Error::last_os_error()),
    }
}
