//! Who is asking.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use holdpoint_ebpf_common::SessionPorts;

use crate::maps::{AGENTS_ID, AGENTS_LEVEL, SESSIONS};

/// The process in whose context a hook runs.
pub enum Caller {
    /// Not below the agents' cgroup: none of our business.
    Outsider,
    /// Below the agents' cgroup, but in no session that is open.
    Stray,
    /// In an open session.
    Session(Session),
}

pub struct Session {
    /// The id of its cgroup.
    pub id: u64,
    pub ports: SessionPorts,
}

#[inline(always)]
pub fn caller() -> Caller {
    let level = AGENTS_LEVEL.load();
    if ancestor(level) != AGENTS_ID.load() {
        return Caller::Outsider;
    }
    // 0 for a process in the agents' cgroup itself, which is never a key.
    let id = ancestor(level + 1);
    // SAFETY: an entry is written once and read here in one piece of 4 bytes.
    match unsafe { SESSIONS.get(id) } {
        Some(&ports) => Caller::Session(Session { id, ports }),
        None => Caller::Stray,
    }
}

#[inline(always)]
fn ancestor(level: u32) -> u64 {
    // SAFETY: takes no pointer.
    unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) }
}
