//! Who is at the other end of a connection over the host's loopback.

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
};
use core::{ffi::c_void, ptr};
use holdpoint_ebpf_common::{Endpoint, Transport};

use crate::sockets::SOCKETS;

/// The owner of a socket.
pub enum Peer {
    /// There is no socket.
    Nobody,
    /// No session's.
    Outsider,
    /// A process of the session with this cgroup.
    Of(u64),
}

/// `bpf_sock_tuple` of linux/bpf.h, each of its forms by itself.
#[repr(C)]
struct TupleV4 {
    from: u32,
    to: u32,
    from_port: u16,
    to_port: u16,
}

#[repr(C)]
struct TupleV6 {
    from: [u32; 4],
    to: [u32; 4],
    from_port: u16,
    to_port: u16,
}

/// Whose socket gets what is sent from `from` to `to`, in the network namespace of the context.
#[inline(always)]
pub fn find(ctx: *mut c_void, transport: Transport, from: &Endpoint, to: &Endpoint) -> Peer {
    let (from_port, to_port) = (from.port.to_be(), to.port.to_be());
    let socket = if to.is_v4() {
        let tuple = TupleV4 {
            from: from.address[3],
            to: to.address[3],
            from_port,
            to_port,
        };
        look_up(ctx, transport, &tuple)
    } else {
        let tuple = TupleV6 {
            from: from.address,
            to: to.address,
            from_port,
            to_port,
        };
        look_up(ctx, transport, &tuple)
    };
    if socket.is_null() {
        return Peer::Nobody;
    }
    let peer = match SOCKETS.state(socket.cast()) {
        Some(state) => Peer::Of(state.session),
        None => Peer::Outsider,
    };
    // SAFETY: the lookup's reference, given back once.
    unsafe { bpf_sk_release(socket.cast()) };
    peer
}

#[inline(always)]
fn look_up<T>(ctx: *mut c_void, transport: Transport, tuple: &T) -> *mut bpf_sock {
    let look_up = match transport {
        Transport::Tcp => bpf_sk_lookup_tcp,
        Transport::Udp => bpf_sk_lookup_udp,
    };
    let tuple = ptr::from_ref(tuple).cast_mut().cast::<bpf_sock_tuple>();
    let namespace = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: the tuple is of the size given, and read only.
    unsafe { look_up(ctx, tuple, size_of::<T>() as u32, namespace, 0) }
}
