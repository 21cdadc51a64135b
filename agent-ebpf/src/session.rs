//! Who is asking.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use holdpoint_ebpf_common::{Network, SessionPorts, SessionRules};

use crate::maps::{AGENTS_ID, AGENTS_LEVEL, SESSIONS, SLICE};

/// How far below the agents' cgroup, or the slice, a session's cgroup may be. What is deeper is in the session above it.
const DEPTH: u32 = 8;

/// The process in whose context a hook runs. Every field is always there: of an enum's variants without values the compiler copies
/// what was never written, which the verifier refuses.
#[derive(Clone, Copy)]
pub struct Caller {
    pub place: Place,
    /// Its session's, or where it is in none, nothing that counts.
    pub session: Session,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// Neither below the agents' cgroup nor below the slice: none of our business.
    Outside,
    /// Below one of them, but in no session that is open.
    Stray,
    /// In an open session.
    Session,
}

#[derive(Clone, Copy)]
pub struct Session {
    /// The id of its cgroup; of a stray, of the cgroup it is in.
    pub id: u64,
    pub rules: SessionRules,
}

impl Session {
    /// One that is not open, with rules that allow nothing.
    #[inline(always)]
    pub const fn closed(id: u64) -> Self {
        Self {
            id,
            rules: SessionRules {
                ports: SessionPorts { proxy: 0, dns: 0 },
                network: Network::Host,
            },
        }
    }
}

#[inline(always)]
pub fn caller() -> Caller {
    let level = AGENTS_LEVEL.load();
    if ancestor(level) == AGENTS_ID.load() {
        return below(level);
    }
    match SLICE.get(0) {
        Some(slice) if ancestor(slice.level) == slice.id => below(slice.level),
        _ => Caller {
            place: Place::Outside,
            session: Session::closed(0),
        },
    }
}

/// The innermost session wins: a job may have one within its runner's.
#[inline(always)]
fn below(level: u32) -> Caller {
    let mut caller = Caller {
        place: Place::Stray,
        // SAFETY: takes no pointer.
        session: Session::closed(unsafe { bpf_get_current_cgroup_id() }),
    };
    for depth in 1..=DEPTH {
        // 0 below the process's own cgroup, which is never a key.
        let id = ancestor(level + depth);
        if id == 0 {
            break;
        }
        if let Some(session) = session(id) {
            caller = Caller {
                place: Place::Session,
                session,
            };
        }
    }
    caller
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
