//! Who is asking.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id,
};
use holdpoint_ebpf_common::SessionRules;

use crate::maps::{AGENTS_ID, AGENTS_LEVEL, SESSIONS, SLICE};

/// How far below the agents' cgroup, or the slice, a session's cgroup may be. What is deeper is in the session above it.
const DEPTH: u32 = 8;

/// The process in whose context a hook runs.
pub enum Caller {
    /// Neither below the agents' cgroup nor below the slice: none of our business.
    Outsider,
    /// Below one of them, but in no session that is open: the id of its own cgroup.
    Stray(u64),
    /// In an open session.
    Session(Session),
}

#[derive(Clone, Copy)]
pub struct Session {
    /// The id of its cgroup.
    pub id: u64,
    pub rules: SessionRules,
}

#[inline(always)]
pub fn caller() -> Caller {
    let level = AGENTS_LEVEL.load();
    if ancestor(level) == AGENTS_ID.load() {
        return below(level);
    }
    match SLICE.get(0) {
        Some(slice) if ancestor(slice.level) == slice.id => below(slice.level),
        _ => Caller::Outsider,
    }
}

/// The innermost session wins: a job may have one within its runner's.
#[inline(always)]
fn below(level: u32) -> Caller {
    let mut found = None;
    for depth in 1..=DEPTH {
        // 0 below the process's own cgroup, which is never a key.
        let id = ancestor(level + depth);
        if id == 0 {
            break;
        }
        if let Some(session) = session(id) {
            found = Some(session);
        }
    }
    match found {
        Some(session) => Caller::Session(session),
        // SAFETY: takes no pointer.
        None => Caller::Stray(unsafe { bpf_get_current_cgroup_id() }),
    }
}

/// The open session of the cgroup `id`.
#[inline(always)]
pub fn session(id: u64) -> Option<Session> {
    // SAFETY: an entry is written once and read here in one piece of 8 bytes.
    let entry = unsafe { SESSIONS.get(id) }?;
    Some(Session {
        id,
        rules: entry.rules(),
    })
}

#[inline(always)]
fn ancestor(level: u32) -> u64 {
    // SAFETY: takes no pointer.
    unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) }
}
