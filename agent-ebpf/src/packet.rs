//! The backstop: a packet of a session's socket leaves the host by no way, and none comes in, however it got past the other
//! hooks (a socket connected before, or by an outsider who was handed it; options of a single message; a race).

use aya_ebpf::{helpers::generated::bpf_skb_ancestor_cgroup_id, programs::SkBuffContext};
use aya_log_ebpf::warn;
use holdpoint_ebpf_common::{Endpoint, Network, Process, Refusal, SocketState, Transport};

use crate::{
    ALLOW,
    address::load,
    maps::{AGENTS_ID, AGENTS_LEVEL, SLICE},
    peer::{self, Peer},
    refuse::Attempt,
    session::{Session, session},
    sockets::SOCKETS,
};

/// Every network namespace's own loopback (LOOPBACK_IFINDEX of linux/net.h).
const LOOPBACK: u32 = 1;

/// IANA.
const TCP: u8 = 6;
const UDP: u8 = 17;

#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let Some(owner) = owner(ctx) else {
        return ALLOW;
    };
    let packet = Packet::read(ctx);
    let passes = match (&packet, &owner.reach) {
        (Some(packet), Reach::OwnLoopback) => packet.stays(ctx),
        (Some(packet), Reach::Peers(session)) => {
            packet.stays(ctx) && packet.reaches_peer(ctx, session)
        }
        _ => false,
    };
    if passes {
        return ALLOW;
    }
    warn!(
        ctx,
        "dropped a packet of the session with cgroup {} that was leaving the host", owner.session
    );
    owner.refuse(packet.map(|packet| (packet.protocol, packet.to)), Refusal::Egress)
}

/// What comes in for a session in the host's network namespace. Elsewhere nothing can.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> i32 {
    let Some(socket) = socket(ctx) else {
        return ALLOW;
    };
    let session = match session(socket.session) {
        Some(session) if session.rules.network == Network::Host => session,
        _ => return ALLOW,
    };
    let packet = Packet::read(ctx);
    match &packet {
        Some(packet) if packet.from.is_loopback() && packet.comes_from_peer(ctx, &session) => {
            return ALLOW;
        }
        _ => {}
    }
    let owner = Owner {
        session: session.id,
        process: socket.maker,
        reach: Reach::Nothing,
    };
    owner.refuse(packet.map(|packet| (packet.protocol, packet.from)), Refusal::Ingress)
}

/// Whose packet it is.
struct Owner {
    session: u64,
    process: Process,
    reach: Reach,
}

/// Where packets may go.
enum Reach {
    /// Loopback, which is the session's own.
    OwnLoopback,
    /// Loopback of the host, as far as it is the session's.
    Peers(Session),
    Nothing,
}

impl Owner {
    #[inline(always)]
    fn refuse(&self, packet: Option<(u8, Endpoint)>, refusal: Refusal) -> i32 {
        let attempt = Attempt {
            session: self.session,
            process: self.process,
            family: 0,
            protocol: packet.map_or(0, |(protocol, _)| protocol),
            destination: packet.map(|(_, endpoint)| endpoint),
        };
        attempt.refuse(refusal)
    }
}

/// Asks the socket's state, and its cgroup, which is its creator's: sockets from before these programs, say, have no state.
#[inline(always)]
fn owner(ctx: &SkBuffContext) -> Option<Owner> {
    let level = AGENTS_LEVEL.load();
    let below_agents = ancestor(ctx, level) == AGENTS_ID.load();
    let socket = socket(ctx);
    let Some(socket) = socket else {
        if below_agents {
            return Some(Owner {
                session: ancestor(ctx, level + 1),
                process: Process::UNKNOWN,
                reach: Reach::OwnLoopback,
            });
        }
        let slice = SLICE.get(0)?;
        return (ancestor(ctx, slice.level) == slice.id).then(|| Owner {
            session: ancestor(ctx, slice.level + 1),
            process: Process::UNKNOWN,
            reach: Reach::Nothing,
        });
    };
    let reach = match session(socket.session) {
        Some(session) => match session.rules.network {
            Network::Own => Reach::OwnLoopback,
            Network::Host => Reach::Peers(session),
        },
        None if below_agents => Reach::OwnLoopback,
        None => Reach::Nothing,
    };
    Some(Owner {
        session: socket.session,
        process: socket.maker,
        reach,
    })
}

#[inline(always)]
fn socket<'a>(ctx: &SkBuffContext) -> Option<&'a mut SocketState> {
    let sk = load!(ctx.skb.skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    SOCKETS.state(sk.cast())
}

#[inline(always)]
fn ancestor(ctx: &SkBuffContext, level: u32) -> u64 {
    // SAFETY: the kernel hands the program a valid context.
    unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level as i32) }
}

/// A TCP or UDP packet without IP options or extension headers: the last could name another destination.
struct Packet {
    protocol: u8,
    transport: Transport,
    from: Endpoint,
    to: Endpoint,
}

/// The head of an IPv4 packet (RFC 791) without options, up to the ports.
#[repr(C)]
struct HeadV4 {
    version_and_length: u8,
    service: u8,
    rest: [u8; 7],
    protocol: u8,
    checksum: u16,
    from: u32,
    to: u32,
    from_port: u16,
    to_port: u16,
}

/// The head of an IPv6 packet (RFC 8200), up to the ports.
#[repr(C)]
struct HeadV6 {
    version: u32,
    length: u16,
    next: u8,
    hops: u8,
    from: [u32; 4],
    to: [u32; 4],
    from_port: u16,
    to_port: u16,
}

const _: () = {
    assert!(size_of::<HeadV4>() == 24);
    assert!(size_of::<HeadV6>() == 44);
};

impl Packet {
    /// The packet starts with its IP header. What cannot be read is none.
    #[inline(always)]
    fn read(ctx: &SkBuffContext) -> Option<Self> {
        let (protocol, from, to) = match ctx.load::<u8>(0).ok()? {
            0x45 => {
                let head: HeadV4 = ctx.load(0).ok()?;
                (
                    head.protocol,
                    Endpoint::v4(head.from, u16::from_be(head.from_port)),
                    Endpoint::v4(head.to, u16::from_be(head.to_port)),
                )
            }
            first if first >> 4 == 6 => {
                let head: HeadV6 = ctx.load(0).ok()?;
                (
                    head.next,
                    Endpoint::new(head.from, u16::from_be(head.from_port)),
                    Endpoint::new(head.to, u16::from_be(head.to_port)),
                )
            }
            _ => return None,
        };
        let transport = match protocol {
            TCP => Transport::Tcp,
            UDP => Transport::Udp,
            _ => return None,
        };
        Some(Self {
            protocol,
            transport,
            from,
            to,
        })
    }

    /// Whether it goes to a loopback address, and there: bound to another interface it would leave all the same.
    #[inline(always)]
    fn stays(&self, ctx: &SkBuffContext) -> bool {
        self.to.is_loopback() && load!(ctx.skb.skb, ifindex) == LOOPBACK
    }

    /// Whether who gets it is of the session, or nobody.
    #[inline(always)]
    fn reaches_peer(&self, ctx: &SkBuffContext, session: &Session) -> bool {
        self.is_with(ctx, session, &self.from, &self.to)
    }

    /// Whether who has sent it is of the session, or nobody (an answer of the kernel's own).
    #[inline(always)]
    fn comes_from_peer(&self, ctx: &SkBuffContext, session: &Session) -> bool {
        self.is_with(ctx, session, &self.to, &self.from)
    }

    #[inline(always)]
    fn is_with(&self, ctx: &SkBuffContext, session: &Session, here: &Endpoint, there: &Endpoint) -> bool {
        if session.rules.is_listener(there) {
            return true;
        }
        match peer::find(ctx.skb.skb.cast(), self.transport, here, there) {
            Peer::Nobody => true,
            Peer::Of(id) => id == session.id,
            Peer::Outsider => false,
        }
    }
}
