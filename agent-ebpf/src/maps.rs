//! The maps. Policy in plain hashes (full means refused), flow state in LRU hashes (a crowd pushes out the oldest, and
//! what has no entry is refused).

use aya_ebpf::{
    Global,
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use holdpoint_ebpf_common::{Flow, FlowKey, Origin, Refusal, SessionPorts};

use crate::REFUSE;

/// The id of the cgroup above all sessions, and its depth. Filled in by the loader.
#[unsafe(no_mangle)]
pub static AGENTS_ID: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static AGENTS_LEVEL: Global<u32> = Global::new(0);

#[map]
pub static SESSIONS: HashMap<u64, SessionPorts> = HashMap::with_max_entries(4096, 0);

/// One for every redirected socket that is open.
#[map]
pub static ORIGINS: LruHashMap<u64, Origin> = LruHashMap::with_max_entries(65_536, 0);

/// One for every redirected connection that is not accepted yet.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(16_384, 0);

#[map]
static REFUSALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Refusal::ALL.len() as u32, 0);

/// Counts a refusal and refuses.
#[inline(always)]
pub fn refuse(refusal: Refusal) -> i32 {
    if let Some(count) = REFUSALS.get_ptr_mut(refusal as u32) {
        // SAFETY: the lookup succeeded, and the slot is this CPU's own.
        unsafe { *count += 1 };
    }
    REFUSE
}
