//! Keeps a client seeing the address it asked for.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_socket_cookie, programs::SockAddrContext,
};

use crate::{address::Family, maps::ORIGINS};

/// Puts the address that the socket asked for in the place of the listener's. A socket that asked several resolvers
/// sees every answer as coming from the one it asked last: they all are the same resolver now.
#[inline(always)]
pub fn asked_for<F: Family>(ctx: &SockAddrContext) {
    // SAFETY: the kernel hands the program a valid context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: read at once; an entry is only ever replaced as a whole.
    let Some(&origin) = (unsafe { ORIGINS.get(cookie) }) else {
        return;
    };
    if F::read(ctx) == origin.listener {
        F::write(ctx, &origin.flow.destination);
    }
}
