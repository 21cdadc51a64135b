//! The maps. Policy in plain hashes (full means refused), connections that nobody has accepted yet in an LRU hash (a crowd
//! pushes out the oldest, and what has no entry is refused), and what belongs to a socket with the socket itself.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use holdpoint_ebpf_common::{DropEvent, Flow, FlowKey, Refusal, SessionEntry, Slice};

/// The id of the cgroup above all sessions, and its depth. Filled in by the loader.
#[unsafe(no_mangle)]
pub static AGENTS_ID: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static AGENTS_LEVEL: Global<u32> = Global::new(0);

#[map]
pub static SESSIONS: HashMap<u64, SessionEntry> = HashMap::with_max_entries(4096, 0);

/// Not a global: a slice that is stopped and started again is another cgroup.
#[map]
pub static SLICE: Array<Slice> = Array::with_max_entries(1, 0);

/// When the loader was last known to run.
#[map]
pub static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);

/// One for every redirected connection that is not accepted yet.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(16_384, 0);

#[map]
static REFUSALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Refusal::ALL.len() as u32, 0);

/// Some thousand events: who reads them late loses some, and knows how many.
#[map]
static DROPS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

pub fn count(refusal: Refusal) {
    increment(&REFUSALS, refusal as u32);
}

/// A full buffer loses the event and counts that.
#[inline(always)]
pub fn publish(event: &DropEvent) {
    if DROPS.output::<DropEvent>(event, 0).is_err() {
        increment(&LOST, 0);
    }
}

#[inline(always)]
fn increment(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(count) = counters.get_ptr_mut(index) {
        // SAFETY: the lookup succeeded, and the slot is this CPU's own.
        unsafe { *count += 1 };
    }
}
