//! What Holdpoint's BPF programs and their loader share: map keys and values, and the decisions themselves,
//! kept apart from the kernel so that they can be tested on any host.
#![no_std]

mod address;
mod drops;
mod maps;
mod option;
mod refusal;
mod route;

pub use address::Endpoint;
pub use drops::{DropEvent, Process};
pub use maps::{Flow, FlowKey, SessionEntry, Slice, SocketState};
pub use option::is_refused as option_is_refused;
pub use refusal::Refusal;
pub use route::{HOST_PORTS, Network, Route, SessionPorts, SessionRules, Transport, route};

/// Names of the maps and globals in the object, as the loader looks them up.
pub mod names {
    /// Hash: session cgroup id to [`SessionEntry`](super::SessionEntry). No entry, no network.
    pub const SESSIONS: &str = "SESSIONS";
    /// Array of one [`Slice`](super::Slice): the cgroup above the sessions in the host's network namespace.
    pub const SLICE: &str = "SLICE";
    /// Socket storage: [`SocketState`](super::SocketState).
    pub const SOCKETS: &str = "SOCKETS";
    /// LRU hash: [`FlowKey`](super::FlowKey) to [`Flow`](super::Flow).
    pub const FLOWS: &str = "FLOWS";
    /// Array of one `u64`: when the loader was last known to run, in nanoseconds on CLOCK_MONOTONIC. 0: nobody has said yet.
    pub const HEARTBEAT: &str = "HEARTBEAT";
    /// Per-CPU array: [`Refusal`](super::Refusal) to a `u64` count.
    pub const REFUSALS: &str = "REFUSALS";
    /// Ring buffer of [`DropEvent`](super::DropEvent).
    pub const DROPS: &str = "DROPS";
    /// Per-CPU array of one `u64`: refusals that are not in the ring buffer, because it was full.
    pub const LOST: &str = "LOST";
    /// `u64`: the id of the cgroup above all sessions.
    pub const AGENTS_ID: &str = "AGENTS_ID";
    /// `u32`: its depth below the cgroup2 root, which has depth 0.
    pub const AGENTS_LEVEL: &str = "AGENTS_LEVEL";
}
