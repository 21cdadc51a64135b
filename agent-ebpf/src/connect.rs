//! Sends a session's traffic to its own listeners.

use aya_ebpf::{EbpfContext as _, programs::SockAddrContext};
use holdpoint_ebpf_common::{
    Endpoint, Flow, Network, Refusal, Route, SocketState, Transport, route,
};

use crate::{
    ALLOW,
    address::{Family, load},
    heartbeat,
    peer::{self, Peer},
    refuse::{Attempt, current},
    session::{Caller, Place, Session, caller},
    sockets::SOCKETS,
};

/// TCP (also by MSG_FASTOPEN and io_uring) and connected UDP. May run again and again on one socket.
#[inline(always)]
pub fn connect<F: Family>(ctx: &SockAddrContext) -> i32 {
    redirect::<F>(ctx, |socket, destination| {
        // It may have been redirected before, and now goes where it asks to. Or it has just been redirected, by the programs of an
        // earlier daemon that run until these have taken over.
        if *destination != socket.listener {
            socket.listener = Endpoint::NONE;
        }
    })
}

/// Datagrams with an address of their own. The kernel also calls this for a connected IPv6 socket with a v4-mapped
/// peer, with the address that connect was redirected to, so loopback says nothing about what the socket asked for.
#[inline(always)]
pub fn sendmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    redirect::<F>(ctx, |_, _| {})
}

/// Binding: not to Holdpoint's own ports, where one could answer in its place once it is gone, and on the host not to
/// addresses that others can reach.
#[inline(always)]
pub fn bind<F: Family>(ctx: &SockAddrContext) -> i32 {
    let Asked { session, .. } = match ask::<F>(ctx) {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let address = F::read(ctx);
    if session.rules.may_bind(&address) {
        return ALLOW;
    }
    attempt::<F>(ctx, session.id).refuse(Refusal::Bind)
}

/// A session's process with a socket of the session.
struct Asked {
    session: Session,
    transport: Transport,
    socket: &'static mut SocketState,
}

/// What goes for whoever uses a socket; the answer, where that is all there is to say.
#[inline(always)]
fn ask<F: Family>(ctx: &SockAddrContext) -> Result<Asked, i32> {
    let Caller { place, session } = caller();
    let refuse = |refusal| Err(attempt::<F>(ctx, session.id).refuse(refusal));
    match place {
        Place::Outside => return Err(ALLOW),
        Place::Stray => return refuse(Refusal::NoSession),
        Place::Session => {}
    }
    let Some(transport) =
        Transport::of(load!(ctx.sock_addr, type_), load!(ctx.sock_addr, protocol))
    else {
        return refuse(Refusal::Protocol);
    };
    // One that was made elsewhere may be in another network namespace, with another loopback.
    match SOCKETS.state(sk(ctx)) {
        Some(socket) if socket.session == session.id => Ok(Asked {
            session,
            transport,
            socket,
        }),
        _ => refuse(Refusal::ForeignSocket),
    }
}

#[inline(always)]
fn redirect<F: Family>(
    ctx: &SockAddrContext,
    unchanged: impl FnOnce(&mut SocketState, &Endpoint),
) -> i32 {
    let Asked {
        session,
        transport,
        socket,
    } = match ask::<F>(ctx) {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let destination = F::read(ctx);
    match route(transport, &destination, session.rules) {
        Route::Unchanged => unchanged(socket, &destination),
        Route::Listener(port) => {
            let listener = destination.loopback_beside(port);
            if let Some(refusal) = objection(ctx, &session, transport, &listener) {
                return attempt::<F>(ctx, session.id).refuse(refusal);
            }
            socket.flow = Flow {
                destination,
                process: current(ctx),
            };
            socket.listener = listener;
            F::write(ctx, &socket.listener);
        }
        Route::Peer => {
            unchanged(socket, &destination);
            return to_peer::<F>(ctx, &session, transport, destination);
        }
        Route::Refused(refusal) => return attempt::<F>(ctx, session.id).refuse(refusal),
    }
    ALLOW
}

/// Why nothing is to go to a listener: nobody would come to accept it, or, on the host, it is not the session's. Where nobody listens,
/// the kernel says so.
#[inline(always)]
fn objection(
    ctx: &SockAddrContext,
    session: &Session,
    transport: Transport,
    listener: &Endpoint,
) -> Option<Refusal> {
    let stopped = heartbeat::has_stopped();
    if session.rules.network == Network::Own && !stopped {
        return None;
    }
    match peer::find(ctx.as_ptr(), transport, &Endpoint::NONE, listener) {
        Peer::Nobody => None,
        Peer::Of(_) | Peer::Outsider if stopped => Some(Refusal::Frozen),
        Peer::Of(id) if id == session.id => None,
        Peer::Of(_) | Peer::Outsider => Some(Refusal::HostLoopback),
    }
}

/// Loopback of the host: whatever is the session's own, its listeners too. Where nobody listens, the kernel says so.
#[inline(always)]
fn to_peer<F: Family>(
    ctx: &SockAddrContext,
    session: &Session,
    transport: Transport,
    mut destination: Endpoint,
) -> i32 {
    if destination.is_unspecified() {
        // Which the kernel would take for the address the socket is bound to.
        destination = destination.loopback_beside(destination.port);
        F::write(ctx, &destination);
    }
    match peer::find(ctx.as_ptr(), transport, &Endpoint::NONE, &destination) {
        Peer::Nobody => ALLOW,
        Peer::Of(id) if id == session.id => ALLOW,
        Peer::Of(_) | Peer::Outsider => attempt::<F>(ctx, session.id).refuse(Refusal::HostLoopback),
    }
}

#[inline(always)]
pub fn sk(ctx: &SockAddrContext) -> *mut core::ffi::c_void {
    load!(ctx.sock_addr, __bindgen_anon_1.sk).cast()
}

#[inline(always)]
fn attempt<F: Family>(ctx: &SockAddrContext, session: u64) -> Attempt {
    Attempt {
        session,
        process: current(ctx),
        family: load!(ctx.sock_addr, family) as u16,
        protocol: load!(ctx.sock_addr, protocol) as u8,
        destination: F::read(ctx),
        has_destination: true,
    }
}
