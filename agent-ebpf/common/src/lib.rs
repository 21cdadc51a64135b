//! What Holdpoint's BPF programs and their loader share: map keys and values, and the decisions themselves,
//! kept apart from the kernel so that they can be tested on any host.
#![no_std]

mod address;
mod maps;
mod route;

pub use address::Endpoint;
pub use maps::{Flow, FlowKey, Origin, SessionPorts};
pub use route::{Refusal, Route, Transport, route};

/// Names of the maps and globals in the object, as the loader looks them up.
pub mod names {
    /// Hash: session cgroup id to [`SessionPorts`](super::SessionPorts). No entry, no network.
    pub const SESSIONS: &str = "SESSIONS";
    /// LRU hash: socket cookie to [`Origin`](super::Origin).
    pub const ORIGINS: &str = "ORIGINS";
    /// LRU hash: [`FlowKey`](super::FlowKey) to [`Flow`](super::Flow).
    pub const FLOWS: &str = "FLOWS";
    /// Per-CPU array: [`Refusal`](super::Refusal) to a `u64` count.
    pub const REFUSALS: &str = "REFUSALS";
    /// `u64`: the id of the cgroup above all sessions.
    pub const AGENTS_ID: &str = "AGENTS_ID";
    /// `u32`: its depth below the cgroup2 root, which has depth 0.
    pub const AGENTS_LEVEL: &str = "AGENTS_LEVEL";
}
