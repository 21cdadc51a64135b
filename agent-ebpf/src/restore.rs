//! Keeps a client seeing the address it asked for.

use aya_ebpf::programs::SockAddrContext;

use crate::{address::Family, connect::sk, sockets::SOCKETS};

/// Puts the address that the socket asked for in the place of the listener's. A socket that asked several resolvers
/// sees every answer as coming from the one it asked last: they all are the same resolver now.
#[inline(always)]
pub fn asked_for<F: Family>(ctx: &SockAddrContext) {
    let Some(socket) = SOCKETS.state(sk(ctx)) else {
        return;
    };
    if F::read(ctx) == socket.listener {
        F::write(ctx, &socket.flow.destination);
    }
}
