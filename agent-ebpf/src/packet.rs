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
    let owner = owner(ctx);
    if owner.reach == Reach::Anywhere {
        return ALLOW;
    }
    let packet = Packet::read(ctx);
    let passes = match owner.reach {
        Reach::Anywhere => true,
        Reach::OwnLoopback => packet.stays(ctx),
        Reach::Peers => {
            packet.stays(ctx) && packet.is_between(ctx, &owner.session, &packet.from, &packet.to)
        }
        Reach::Nothing => false,
    };
    if passes {
        return ALLOW;
    }
    warn!(
        ctx,
        "dropped a packet of the session with cgroup {} that was leaving the host",
        owner.session.id
    );
    refuse(&owner, &packet, packet.to, Refusal::Egress)
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
    let from_peer = packet.is_known()
        && packet.from.is_loopback()
        && packet.is_between(ctx, &session, &packet.to, &packet.from);
    if from_peer {
        return ALLOW;
    }
    let owner = Owner {
        session,
        process: socket.maker,
        reach: Reach::Nothing,
    };
    refuse(&owner, &packet, packet.from, Refusal::Ingress)
}

#[inline(always)]
fn refuse(owner: &Owner, packet: &Packet, other_end: Endpoint, refusal: Refusal) -> i32 {
    let attempt = Attempt {
        session: owner.session.id,
        process: owner.process,
        family: 0,
        protocol: packet.protocol,
        destination: other_end,
        has_destination: packet.is_known(),
    };
    attempt.refuse(refusal)
}

/// Whose packet it is. Like a caller, without fields that are not always there.
struct Owner {
    session: Session,
    process: Process,
    reach: Reach,
}

/// Where its packets may go.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// It is no session's.
    Anywhere,
    /// Loopback, which is the session's own.
    OwnLoopback,
    /// Loopback of the host, as far as it is the session's.
    Peers,
    Nothing,
}

/// Asks the socket's state, and its cgroup, which is its creator's: sockets from before these programs, say, have no state.
#[inline(always)]
fn owner(ctx: &SkBuffContext) -> Owner {
    let Some(socket) = socket(ctx) else {
        return stateless(ctx);
    };
    let (session, reach) = match session(socket.session) {
        Some(session) if session.rules.network == Network::Own => (session, Reach::OwnLoopback),
        Some(session) => (session, Reach::Peers),
        // Whose loopback that would be is not known any more.
        None => (Session::closed(socket.session), Reach::Nothing),
    };
    Owner {
        session,
        process: socket.maker,
        reach,
    }
}

#[inline(always)]
fn stateless(ctx: &SkBuffContext) -> Owner {
    let level = AGENTS_LEVEL.load();
    let (level, reach) = match SLICE.get(0) {
        _ if ancestor(ctx, level) == AGENTS_ID.load() => (level, Reach::Nothing),
        Some(slice) if ancestor(ctx, slice.level) == slice.id => (slice.level, Reach::Nothing),
        _ => (level, Reach::Anywhere),
    };
    Owner {
        session: Session::closed(ancestor(ctx, level + 1)),
        process: Process::UNKNOWN,
        reach,
    }
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
    /// 0: something else.
    protocol: u8,
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
    const UNKNOWN: Self = Self {
        protocol: 0,
        from: Endpoint::NONE,
        to: Endpoint::NONE,
    };

    /// The packet starts with its IP header.
    #[inline(always)]
    fn read(ctx: &SkBuffContext) -> Self {
        let packet = match ctx.load::<u8>(0) {
            Ok(0x45) => Self::read_v4(ctx),
            Ok(first) if first >> 4 == 6 => Self::read_v6(ctx),
            _ => Self::UNKNOWN,
        };
        match packet.protocol {
            TCP | UDP => packet,
            _ => Self::UNKNOWN,
        }
    }

    #[inline(always)]
    fn read_v4(ctx: &SkBuffContext) -> Self {
        let Ok(head) = ctx.load::<HeadV4>(0) else {
            return Self::UNKNOWN;
        };
        Self {
            protocol: head.protocol,
            from: Endpoint::v4(head.from, u16::from_be(head.from_port)),
            to: Endpoint::v4(head.to, u16::from_be(head.to_port)),
        }
    }

    #[inline(always)]
    fn read_v6(ctx: &SkBuffContext) -> Self {
        let Ok(head) = ctx.load::<HeadV6>(0) else {
            return Self::UNKNOWN;
        };
        Self {
            protocol: head.next,
            from: Endpoint::new(head.from, u16::from_be(head.from_port)),
            to: Endpoint::new(head.to, u16::from_be(head.to_port)),
        }
    }

    #[inline(always)]
    fn is_known(&self) -> bool {
        self.protocol != 0
    }

    /// Whether it goes to a loopback address, and there: bound to another interface it would leave all the same.
    #[inline(always)]
    fn stays(&self, ctx: &SkBuffContext) -> bool {
        self.is_known() && self.to.is_loopback() && load!(ctx.skb.skb, ifindex) == LOOPBACK
    }

    /// Whether whoever is at `there`, for packets from `here`, is of the session, as its listeners are, or nobody.
    #[inline(always)]
    fn is_between(
        &self,
        ctx: &SkBuffContext,
        session: &Session,
        here: &Endpoint,
        there: &Endpoint,
    ) -> bool {
        let transport = match self.protocol {
            TCP => Transport::Tcp,
            _ => Transport::Udp,
        };
        match peer::find(ctx.skb.skb.cast(), transport, here, there) {
            Peer::Nobody => true,
            Peer::Of(id) => id == session.id,
            Peer::Outsider => false,
        }
    }
}
