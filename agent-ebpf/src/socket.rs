//! The life of a socket: which kinds may be made, which options they may have, and what a connecting one asked for.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, BPF_TCP_SYN_SENT,
    },
    programs::{SockContext, SockOpsContext, SockoptContext},
};
use holdpoint_ebpf_common::{
    Endpoint, Flow, FlowKey, Network, Refusal, SocketState, Transport, option_is_refused,
};

use crate::{
    ALLOW,
    address::{load, store},
    maps::FLOWS,
    refuse::{Attempt, current},
    session::{Caller, Place, caller, session},
    sockets::SOCKETS,
};

/// AF_INET of every Linux.
const AF_INET: u32 = 2;

/// The largest page of any architecture is larger; what matters is that nothing that fits is affected.
const SMALLEST_PAGE: i32 = 4096;

/// Lets a session make TCP and UDP sockets only, and keeps whose they are.
#[inline(always)]
pub fn create(ctx: &SockContext) -> i32 {
    let Caller { place, session } = caller();
    let refuse = |refusal| {
        let attempt = Attempt {
            session: session.id,
            process: current(ctx),
            family: load!(ctx.sock, family) as u16,
            protocol: load!(ctx.sock, protocol) as u8,
            destination: Endpoint::NONE,
            has_destination: false,
        };
        attempt.refuse(refusal)
    };
    match place {
        Place::Outside => return ALLOW,
        Place::Stray => return refuse(Refusal::NoSession),
        Place::Session => {}
    }
    if Transport::of(load!(ctx.sock, type_), load!(ctx.sock, protocol)).is_none() {
        return refuse(Refusal::Protocol);
    }
    let mut state = SocketState::new(session.id, current(ctx));
    match SOCKETS.insert(ctx.as_ptr(), &mut state) {
        Some(()) => ALLOW,
        None => refuse(Refusal::Store),
    }
}

/// Options of a session's socket, whoever sets them.
#[inline(always)]
pub fn set_option(ctx: &SockoptContext) -> i32 {
    // The kernel has copied a page of the value at most, and takes a longer one for an error unless it is told to use the caller's own.
    if load!(ctx.sockopt, optlen) > SMALLEST_PAGE {
        store!(ctx.sockopt, 0, optlen);
    }
    let Some(socket) = SOCKETS.state(load!(ctx.sockopt, __bindgen_anon_1.sk).cast()) else {
        return ALLOW;
    };
    let (level, name) = (load!(ctx.sockopt, level), load!(ctx.sockopt, optname));
    // A closed session's may be of either kind.
    let network = session(socket.session).map_or(Network::Host, |session| session.rules.network);
    if !option_is_refused(network, level, name) {
        return ALLOW;
    }
    let attempt = Attempt {
        session: socket.session,
        process: socket.maker,
        family: 0,
        protocol: 0,
        destination: Endpoint::NONE,
        has_destination: false,
    };
    attempt.refuse(Refusal::SocketOption)
}

/// Hands what the socket asked for on to the listener, and takes it back when the client resets the connection or gives up: the listener
/// may never come to accept it.
#[inline(always)]
pub fn operation(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(ctx),
        // The old state and the new one (linux/bpf.h). One that says good-bye is in neither of these: what it has sent may be accepted still.
        BPF_SOCK_OPS_STATE_CB
            if ctx.arg(1) == BPF_TCP_CLOSE
                && matches!(ctx.arg(0), BPF_TCP_ESTABLISHED | BPF_TCP_SYN_SENT) =>
        {
            closed(ctx);
        }
        _ => {}
    }
}

/// The 4-tuple is what both see. The local end is chosen by now and the SYN not sent yet, so the listener never is first.
#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some((key, flow)) = redirected(ctx) else {
        return;
    };
    // Without an entry the listener closes the connection.
    let _missing = FLOWS.insert(key, flow, 0);
    let _untold = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
}

#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    if let Some((key, _)) = redirected(ctx) {
        let _accepted = FLOWS.remove(key);
    }
}

#[inline(always)]
fn redirected(ctx: &SockOpsContext) -> Option<(FlowKey, Flow)> {
    let sk = load!(ctx.ops, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    let socket = SOCKETS.state(sk.cast())?;
    // It was redirected once, or never, and goes elsewhere now.
    if remote(ctx) != socket.listener {
        return None;
    }
    let key = FlowKey {
        session: socket.session,
        client: local(ctx),
        listener: socket.listener,
    };
    Some((key, socket.flow))
}

#[inline(always)]
fn local(ctx: &SockOpsContext) -> Endpoint {
    let v4 = load!(ctx.ops, local_ip4);
    let v6 = [
        load!(ctx.ops, local_ip6[0]),
        load!(ctx.ops, local_ip6[1]),
        load!(ctx.ops, local_ip6[2]),
        load!(ctx.ops, local_ip6[3]),
    ];
    // Alone among these, in host byte order.
    of_family(ctx, v4, v6, load!(ctx.ops, local_port) as u16)
}

#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Endpoint {
    let v4 = load!(ctx.ops, remote_ip4);
    let v6 = [
        load!(ctx.ops, remote_ip6[0]),
        load!(ctx.ops, remote_ip6[1]),
        load!(ctx.ops, remote_ip6[2]),
        load!(ctx.ops, remote_ip6[3]),
    ];
    // A big-endian u32.
    of_family(
        ctx,
        v4,
        v6,
        u32::from_be(load!(ctx.ops, remote_port)) as u16,
    )
}

/// Takes both addresses as values: a branch around the loads would become one load at a computed offset into the context, which
/// the verifier refuses.
#[inline(always)]
fn of_family(ctx: &SockOpsContext, v4: u32, v6: [u32; 4], port: u16) -> Endpoint {
    if load!(ctx.ops, family) == AF_INET {
        Endpoint::v4(v4, port)
    } else {
        Endpoint::new(v6, port)
    }
}
