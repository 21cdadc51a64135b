//! The fields of the kernel's contexts, and the address in a `bpf_sock_addr`: read and written one by one, because the
//! verifier takes accesses of these widths at these offsets only and the compiler may neither join nor narrow them.

use aya_ebpf::programs::SockAddrContext;
use holdpoint_ebpf_common::Endpoint;

/// The family a hook is for. v4-mapped IPv6 addresses arrive at the IPv6 hooks.
pub trait Family {
    fn read(ctx: &SockAddrContext) -> Endpoint;
    fn write(ctx: &SockAddrContext, endpoint: &Endpoint);
}

pub struct V4;
pub struct V6;

macro_rules! load {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}
pub(crate) use load;

macro_rules! store {
    ($context:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { core::ptr::write_volatile(&raw mut (*$context).$($field)+, $value) }
    };
}
pub(crate) use store;

impl Family for V4 {
    #[inline(always)]
    fn read(ctx: &SockAddrContext) -> Endpoint {
        Endpoint::v4(load!(ctx.sock_addr, user_ip4), port(ctx))
    }

    #[inline(always)]
    fn write(ctx: &SockAddrContext, endpoint: &Endpoint) {
        store!(ctx.sock_addr, endpoint.address[3], user_ip4);
        write_port(ctx, endpoint.port);
    }
}

impl Family for V6 {
    #[inline(always)]
    fn read(ctx: &SockAddrContext) -> Endpoint {
        let address = [
            load!(ctx.sock_addr, user_ip6[0]),
            load!(ctx.sock_addr, user_ip6[1]),
            load!(ctx.sock_addr, user_ip6[2]),
            load!(ctx.sock_addr, user_ip6[3]),
        ];
        Endpoint::new(address, port(ctx))
    }

    #[inline(always)]
    fn write(ctx: &SockAddrContext, endpoint: &Endpoint) {
        store!(ctx.sock_addr, endpoint.address[0], user_ip6[0]);
        store!(ctx.sock_addr, endpoint.address[1], user_ip6[1]);
        store!(ctx.sock_addr, endpoint.address[2], user_ip6[2]);
        store!(ctx.sock_addr, endpoint.address[3], user_ip6[3]);
        write_port(ctx, endpoint.port);
    }
}

/// `user_port` is a big-endian u16 in the first two bytes of a u32.
#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    u16::from_be(load!(ctx.sock_addr, user_port) as u16)
}

#[inline(always)]
fn write_port(ctx: &SockAddrContext, port: u16) {
    store!(ctx.sock_addr, u32::from(port.to_be()), user_port);
}
