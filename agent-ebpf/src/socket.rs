//! The life of a socket: which kinds may be made, what a connecting one asked for, and its end.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_SOCK_OPS_TCP_CONNECT_CB,
    helpers::generated::bpf_get_socket_cookie,
    programs::{SockContext, SockOpsContext},
};
use holdpoint_ebpf_common::{Endpoint, FlowKey, Refusal, Transport};

use crate::{
    ALLOW,
    address::load,
    maps::{FLOWS, ORIGINS, refuse},
    session::{Caller, caller},
};

/// AF_INET of every Linux.
const AF_INET: u32 = 2;

/// Lets a session make TCP and UDP sockets only.
#[inline(always)]
pub fn create(ctx: &SockContext) -> i32 {
    match caller() {
        Caller::Outsider => return ALLOW,
        Caller::Stray => return refuse(Refusal::NoSession),
        Caller::Session(_) => {}
    }
    match Transport::of(load!(ctx.sock, type_), load!(ctx.sock, protocol)) {
        Some(_) => ALLOW,
        None => refuse(Refusal::Protocol),
    }
}

/// Forgets what the socket asked for.
#[inline(always)]
pub fn release(ctx: &SockContext) {
    // SAFETY: the kernel hands the program a valid context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let _absent = ORIGINS.remove(cookie);
}

/// Hands what the socket asked for on to the listener, under what both see: the 4-tuple. The local end is chosen by now
/// and the SYN not sent yet, so the listener never is first.
#[inline(always)]
pub fn connecting(ctx: &SockOpsContext) {
    if ctx.op() != BPF_SOCK_OPS_TCP_CONNECT_CB {
        return;
    }
    // SAFETY: the kernel hands the program a valid context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: read at once; an entry is only ever replaced as a whole.
    let Some(&origin) = (unsafe { ORIGINS.get(cookie) }) else {
        return;
    };
    // A stale entry: the socket was redirected once and goes elsewhere now.
    if remote(ctx) != origin.listener {
        return;
    }
    let key = FlowKey {
        session: origin.session,
        client: local(ctx),
        listener: origin.listener,
    };
    // Without an entry the listener closes the connection.
    let _missing = FLOWS.insert(key, origin.flow, 0);
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
