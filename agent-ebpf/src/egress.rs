//! The backstop: a packet of a session's socket leaves the host by no way, however it got past the other hooks (a socket
//! connected before, or by an outsider who was handed it).

use aya_ebpf::{helpers::generated::bpf_skb_ancestor_cgroup_id, programs::SkBuffContext};
use aya_log_ebpf::warn;
use holdpoint_ebpf_common::{Endpoint, Refusal};

use crate::{
    ALLOW,
    maps::{AGENTS_ID, AGENTS_LEVEL, refuse},
};

/// Where the destination address is in an IPv4 header (RFC 791).
const IPV4_DESTINATION: usize = 16;
/// Where the destination address is in an IPv6 header (RFC 8200).
const IPV6_DESTINATION: usize = 24;

#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let level = AGENTS_LEVEL.load();
    if ancestor(ctx, level) != AGENTS_ID.load() {
        return ALLOW;
    }
    match destination(ctx) {
        Some(destination) if destination.is_loopback() => ALLOW,
        _ => {
            let session = ancestor(ctx, level + 1);
            warn!(
                ctx,
                "dropped a packet of the session with cgroup {} that was leaving the host", session
            );
            refuse(Refusal::Egress)
        }
    }
}

/// The cgroup of the packet's socket, which is its creator's; not the caller's.
#[inline(always)]
fn ancestor(ctx: &SkBuffContext, level: u32) -> u64 {
    // SAFETY: the kernel hands the program a valid context.
    unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level as i32) }
}

/// The packet starts with its IP header. Whatever cannot be read is no destination.
#[inline(always)]
fn destination(ctx: &SkBuffContext) -> Option<Endpoint> {
    match ctx.load::<u8>(0).ok()? >> 4 {
        4 => Some(Endpoint::v4(ctx.load(IPV4_DESTINATION).ok()?, 0)),
        6 => Some(Endpoint::new(ctx.load(IPV6_DESTINATION).ok()?, 0)),
        _ => None,
    }
}
