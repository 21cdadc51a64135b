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
    let owner = if to.is_v4() {
        let tuple = TupleV4 {
            from: from.address[3],
            to: to.address[3],
            from_port,
            to_port,
        };
        owner(ctx, transport, &tuple)
    } else {
        let tuple = TupleV6 {
            from: from.address,
            to: to.address,
            from_port,
            to_port,
        };
        owner(ctx, transport, &tuple)
    };
    match owner {
        NOBODY => Peer::Nobody,
        OUTSIDER => Peer::Outsider,
        session => Peer::Of(session),
    }
}

/// What is no id of a session's cgroup: 1 is the root's.
const NOBODY: u64 = 0;
const OUTSIDER: u64 = 1;

#[inline(always)]
fn owner<T>(ctx: *mut c_void, transport: Transport, tuple: &T) -> u64 {
    let tuple_size = size_of::<T>() as u32;
    let tuple = ptr::from_ref(tuple).cast_mut().cast();
    match transport {
        Transport::Tcp => tcp_owner(ctx, tuple, tuple_size),
        Transport::Udp => udp_owner(ctx, tuple, tuple_size),
    }
}

// Functions of their own: the compiler would join the two calls into one through a register, which BPF does not have.
#[inline(never)]
fn tcp_owner(ctx: *mut c_void, tuple: *mut bpf_sock_tuple, size: u32) -> u64 {
    // SAFETY: the callers' tuples are of the size they give, and read only.
    owner_of(unsafe { bpf_sk_lookup_tcp(ctx, tuple, size, CURRENT, 0) })
}

#[inline(never)]
fn udp_owner(ctx: *mut c_void, tuple: *mut bpf_sock_tuple, size: u32) -> u64 {
    // SAFETY: as above.
    owner_of(unsafe { bpf_sk_lookup_udp(ctx, tuple, size, CURRENT, 0) })
}

/// The network namespace of the context.
const CURRENT: u64 = BPF_F_CURRENT_NETNS as i64 as u64;

#[inline(always)]
fn owner_of(socket: *mut bpf_sock) -> u64 {
    if socket.is_null() {
        return NOBODY;
    }
    let owner = match SOCKETS.state(socket.cast()) {
        Some(state) => state.session,
        None => OUTSIDER,
    };
    // SAFETY: the lookup's reference, given back once.
    unsafe { bpf_sk_release(socket.cast()) };
    owner
}
