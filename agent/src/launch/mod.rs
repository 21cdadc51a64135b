//! Starts a command in a session: cgroup, namespaces, user, environment, system-call filter.
//!
//! Four processes take part, in the order a command passes through them:
//!
//! 1. the **client** ([`client`], `holdpoint run`): the caller's own process. Sends one [`message::Request`] with its
//!    stdio and working directory, then relays its terminal and signals;
//! 2. the **daemon** ([`RunListener`], [`RunRequest`], [`Prepared`], [`Running`]): decides, makes the cgroup;
//! 3. the **shim** ([`shim`], root, one per session): makes the network and mount namespaces and the listeners in
//!    them, hands those to the daemon, and starts
//! 4. the **init** (PID 1 of the session's PID namespace, in the session's cgroup): starts the command as the
//!    caller, talks to the client, and takes the whole session with it when it ends.
//!
//! Shim and init outlive the daemon: its sockets are gone then, and with them every way out, but the command goes on and
//! its exit code arrives.

mod caller;
mod cgroup;
pub mod client;
mod command;
mod credentials;
mod environment;
mod filter;
mod init;
mod limits;
mod listener;
mod message;
mod mountinfo;
mod mounts;
mod network;
mod piped;
mod request;
mod running;
pub mod shim;
mod stdio;
pub mod sweep;
pub(crate) mod sys;
mod terminal;
mod wire;

use std::path::PathBuf;

pub use cgroup::end_leftovers;
pub use listener::RunListener;
pub use request::RunRequest;
pub use running::{Listeners, Prepared, Running};

/// Port of the proxy's listeners in every session.
pub const PROXY_PORT: u16 = 15001;
/// Port of the resolver's listeners in every session.
pub const DNS_PORT: u16 = 53;

/// What all sessions of this host share.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cgroup whose children the sessions are: `<cgroup2 root>/holdpoint`.
    pub agents_cgroup: PathBuf,
    /// The PEM file sandboxes trust. Copied when a session is made.
    pub ca_bundle: PathBuf,
    /// Where the daemon's sockets are. Inside a session only the CA bundle is to be seen there.
    pub runtime_dir: PathBuf,
    /// The Google project SDKs are told by environment, unless the caller names one.
    pub project: Option<String>,
}
