//! Sends a session's traffic to its own listeners.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_socket_cookie, programs::SockAddrContext,
};
use holdpoint_ebpf_common::{Endpoint, Flow, Origin, Refusal, Route, Transport, route};

use crate::{
    ALLOW,
    address::{Family, load},
    maps::{ORIGINS, refuse},
    session::{Caller, Session, caller},
};

/// TCP (also by MSG_FASTOPEN and io_uring) and connected UDP. May run again and again on one socket.
#[inline(always)]
pub fn connect<F: Family>(ctx: &SockAddrContext) -> i32 {
    redirect::<F>(ctx, || {
        // A socket that was redirected before and now goes where it asks to.
        let _absent = ORIGINS.remove(cookie(ctx));
    })
}

/// Datagrams with an address of their own. The kernel also calls this for a connected IPv6 socket with a v4-mapped
/// peer, with the address that connect was redirected to, so loopback says nothing about what the socket asked for.
#[inline(always)]
pub fn sendmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    redirect::<F>(ctx, || {})
}

#[inline(always)]
fn redirect<F: Family>(ctx: &SockAddrContext, unchanged: impl FnOnce()) -> i32 {
    let session = match caller() {
        Caller::Outsider => return ALLOW,
        Caller::Stray => return refuse(Refusal::NoSession),
        Caller::Session(session) => session,
    };
    let Some(transport) =
        Transport::of(load!(ctx.sock_addr, type_), load!(ctx.sock_addr, protocol))
    else {
        return refuse(Refusal::Protocol);
    };
    let destination = F::read(ctx);
    match route(transport, &destination, session.ports) {
        Route::Unchanged => {
            unchanged();
            ALLOW
        }
        Route::Listener(port) => to_listener::<F>(ctx, &session, destination, port),
        Route::Refused(refusal) => refuse(refusal),
    }
}

#[inline(always)]
fn to_listener<F: Family>(
    ctx: &SockAddrContext,
    session: &Session,
    destination: Endpoint,
    port: u16,
) -> i32 {
    let flow = Flow {
        destination,
        pid: ctx.tgid(),
    };
    let listener = destination.loopback_beside(port);
    let origin = Origin::new(session.id, flow, listener);
    if ORIGINS.insert(cookie(ctx), origin, 0).is_err() {
        return refuse(Refusal::Store);
    }
    F::write(ctx, &listener);
    ALLOW
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the kernel hands the program a valid context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
