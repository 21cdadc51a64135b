//! Starts a command in a session: cgroup, namespaces, user, environment, system-call filter.
//!
//! Five processes take part, in the order a command passes through them:
//!
//! 1. the **client** ([`client`], `holdpoint run`): the caller's own process. Sends one [`message::Request`] with its
//!    stdio and working directory, then relays its terminal and signals;
//! 2. the **daemon** ([`RunListener`], [`RunRequest`], [`Prepared`], [`Running`]): decides;
//! 3. the **launcher** ([`launcher`], root, a service of its own): starts, for every connection of the daemon's,
//! 4. the **shim** ([`shim`], root, one per session): makes the cgroup, the namespaces and the listeners in them, hands those to
//!    the daemon, and starts
//! 5. the **init** (PID 1 of the session's PID namespace, in the session's cgroup): starts the command as the
//!    caller, talks to the client, and takes the whole session with it when it ends.
//!
//! Shim and init outlive the daemon: its sockets are gone then, and with them every way out, but the command goes on and
//! its exit code arrives. A daemon that is started anew finds the shims by their sockets ([`find`]) and has the listeners opened again.

mod adopt;
mod caller;
mod cgroup;
pub mod client;
mod command;
mod confine;
mod controllers;
mod credentials;
mod door;
pub(crate) mod environment;
pub(crate) mod filter;
mod hook;
mod host_sockets;
mod init;
pub(crate) mod keep;
mod keeper;
pub mod launcher;
mod limits;
mod listener;
pub(crate) mod message;
mod mounts;
mod network;
mod piped;
mod private;
mod program;
mod remove;
mod request;
mod running;
pub(crate) mod sandbox;
pub mod shim;
mod spawn;
mod stdio;
mod strays;
pub(crate) mod sys;
mod terminal;
pub(crate) mod trust;
mod wire;

use std::path::PathBuf;

pub use adopt::{Found, end_strays, find, init_of};
pub use cgroup::{end_leftovers, kill_sessions, sessions};
pub use controllers::enable as enable_controllers;
pub use door::close_doors;
pub use hook::{Hook, HookEnd};
pub use listener::{RunListener, TurnedAway};
pub use network::{Network, Place};
pub use program::Program;
pub use request::RunRequest;
pub use running::{Listeners, Prepared, Running};
pub use sandbox::{Limits, Sandbox};
pub use spawn::{LAUNCHER_SOCKET, Launcher, TEMPORARY_SOCKET, clear, sweep};

/// Port of the proxy's listeners in every session with a network of its own.
pub const PROXY_PORT: u16 = 15001;
/// Port of the resolver's listeners in every session with a network of its own.
pub const DNS_PORT: u16 = 53;

/// What all sessions of this host share.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cgroup whose children the sessions are: `<cgroup2 root>/holdpoint`.
    pub agents_cgroup: PathBuf,
    /// The PEM file sandboxes trust. Copied when a session is made.
    pub ca_bundle: PathBuf,
    /// The socket of the launcher.
    pub launcher: PathBuf,
    /// Where the daemon's sockets are. Inside a session only the CA bundle is to be seen there.
    pub runtime_dir: PathBuf,
    /// The Google project SDKs are told by environment, unless the caller names one.
    pub project: Option<String>,
    /// Whether sessions are served containers.
    pub containers: bool,
    /// What sessions see of the host and may take of it.
    pub sandbox: Sandbox,
}
