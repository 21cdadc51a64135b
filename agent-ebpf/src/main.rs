//! Holdpoint's BPF programs. They are attached at the cgroup2 root, so they run for every process and every socket
//! of the host, and decide by the *caller's* ancestor cgroup: who is not below the agents' cgroup, or the slice of services in the
//! host's network namespace, is let pass untouched.
//!
//! `sock_create` says whose a new socket is, which stays with the socket; `connect` and `sendmsg` send a session's traffic to its
//! own listeners and remember what was asked for; `sock_ops` hands that on under the 4-tuple, which is what the listener sees;
//! `recvmsg` and `getpeername` keep up appearances; `bind`, `setsockopt`, `egress` and `ingress` refuse what the others would
//! never see. Refusals are counted, and told to the loader with who asked for what.
//!
//! Only UAPI contexts and helpers of kernel 5.10.
#![no_std]
#![no_main]

mod address;
mod connect;
mod heartbeat;
mod maps;
mod packet;
mod peer;
mod refuse;
mod restore;
mod session;
mod socket;
mod sockets;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt, sock_ops},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext, SockoptContext},
};

use crate::address::{V4, V6};

/// What a program answers: go on.
pub const ALLOW: i32 = 1;
/// What a program answers: EPERM.
pub const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect::connect::<V4>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect::connect::<V6>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    connect::sendmsg::<V4>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    connect::sendmsg::<V6>(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    restore::asked_for::<V4>(&ctx);
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    restore::asked_for::<V6>(&ctx);
    ALLOW
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    restore::asked_for::<V4>(&ctx);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    restore::asked_for::<V6>(&ctx);
    ALLOW
}

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    socket::create(&ctx)
}

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    connect::bind::<V4>(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    connect::bind::<V6>(&ctx)
}

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    socket::set_option(&ctx)
}

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    socket::operation(&ctx);
    ALLOW as u32
}

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    packet::egress(&ctx)
}

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    packet::ingress(&ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
