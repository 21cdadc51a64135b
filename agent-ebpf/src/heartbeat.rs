//! Whether Holdpoint runs: a process that is stopped goes on listening, and would keep every client waiting.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::maps::HEARTBEAT;

/// The loader says several times a second that it runs. 2 s, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// Whether it has said so once, and not lately.
#[inline(always)]
pub fn has_stopped() -> bool {
    match HEARTBEAT.get(0) {
        // SAFETY: takes no pointer.
        Some(last) if *last != 0 => unsafe { bpf_ktime_get_ns() }.saturating_sub(*last) > PATIENCE,
        _ => false,
    }
}
