//! What client, daemon, shim and init tell one another.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    hook::HookEnd,
    network::{Network, Place},
    program::{Named, Program},
    sandbox::Rules,
    sys::Limit,
};

/// The version of the messages; client and daemon must be of the same.
pub const VERSION: u32 = 2;
/// The version of [`Prepare`] and [`Start`]; daemon and launcher must be of the same.
pub const LAUNCHER_VERSION: u32 = 1;

/// Bytes that need not be UTF-8 (arguments, paths), in JSON as a string of the characters U+0000 to U+00FF.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// As a path.
    pub fn to_path(&self) -> PathBuf {
        OsStr::from_bytes(&self.0).into()
    }
}

impl From<&Path> for Octets {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|char| u8::try_from(u32::from(char)))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a character that stands for no byte"))
    }
}

/// The OIDC token that asks for a session.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes it over.
    pub fn new(mut token: Zeroizing<String>) -> Self {
        Self(std::mem::take(&mut *token))
    }

    /// Hands it on.
    pub fn reveal(mut self) -> Zeroizing<String> {
        Zeroizing::new(std::mem::take(&mut self.0))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How the command starts on the terminal that came along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalUse {
    /// In its foreground process group, so that it may read from it.
    pub foreground: bool,
}

/// Client to daemon, once. With it: stdin, stdout, stderr, the working directory, and the terminal where there is one.
/// Not Debug, like all that holds an environment: people keep secrets there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The command and its arguments.
    pub command: Vec<Octets>,
    /// `NAME=value`, without the token.
    pub environment: Vec<Octets>,
    /// The token.
    pub token: Option<Token>,
    /// The service whose session it shall be, instead of a token.
    pub service: Option<String>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Signals the caller ignores (nohup).
    pub ignored: Vec<i32>,
    /// Set when a terminal came along.
    pub terminal: Option<TerminalUse>,
}

/// Daemon or init to client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Holdpoint says no, or failed. Nothing was started.
    Refused { message: String },
    /// The command could not be executed after all.
    NotStarted { code: u8, message: String },
    /// The session is there, and signals reach it from now on; the command is being executed.
    Started { session: String },
    /// The command was stopped by a signal.
    Stopped { signal: i32 },
    /// The command exited.
    Exited { code: i32 },
    /// The command was killed by a signal.
    Killed { signal: i32 },
}

/// Client to init.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Send the command a signal: its process group when the client's was meant too (the terminal's keys do that).
    Signal { number: i32, group: bool },
    /// Continue the command, in the foreground of its terminal or not.
    Continue { foreground: bool },
}

/// Daemon to shim, first: what it was started for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "errand", rename_all = "snake_case", deny_unknown_fields)]
pub enum Errand {
    /// To make a session, and to stay with it.
    Prepare(Box<Prepare>),
    /// To end what lives in a cgroup whose shim is gone, and to remove it.
    Clear {
        /// The cgroup's directory.
        cgroup: Octets,
    },
    /// To remove the files of sessions whose cgroup is gone.
    Sweep {
        /// See [`super::Site::agents_cgroup`].
        agents_cgroup: Octets,
    },
    /// To run a program of the operator's. Answered by [`Reply::HookEnded`].
    Hook(Box<RunHook>),
}

/// A program of the operator's, and what it is to read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunHook {
    /// The command and its arguments.
    pub command: Vec<Octets>,
    /// Whose it is.
    pub uid: u32,
    /// Whose group it is in.
    pub gid: u32,
    /// Whose supplementary groups it is in.
    pub groups: Vec<u32>,
    /// What its standard input says.
    pub input: String,
    /// How long it may take.
    pub milliseconds: u64,
}

/// What a session is made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// [`LAUNCHER_VERSION`].
    pub version: u32,
    /// The session's id: the name of its cgroup and of its socket.
    pub session: String,
    /// See [`super::Site::agents_cgroup`].
    pub agents_cgroup: Octets,
    /// See [`super::Site::ca_bundle`].
    pub ca_bundle: Octets,
    /// See [`super::Site::runtime_dir`].
    pub runtime_dir: Octets,
    /// What the session sees.
    pub sandbox: Rules,
    /// The network it is in.
    #[serde(default)]
    pub network: Network,
    /// What it shall run, for the record. An older launcher does not look.
    #[serde(default)]
    pub named: Option<Named>,
}

/// Daemon to shim, second. With it: the client's socket, stdin, stdout, stderr, and the terminal if any.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The session's id.
    pub session: String,
    /// The caller.
    pub uid: u32,
    /// The caller's group.
    pub gid: u32,
    /// The caller's supplementary groups.
    pub groups: Vec<u32>,
    /// The command and its arguments.
    pub command: Vec<Octets>,
    /// Its whole environment.
    pub environment: Vec<Octets>,
    /// The working directory.
    pub directory: Directory,
    /// The file mode creation mask.
    pub umask: u32,
    /// The caller's resource limits.
    pub limits: Vec<Limit>,
    /// Signals to ignore.
    pub ignored: Vec<i32>,
    /// Set when a terminal comes along.
    pub terminal: Option<TerminalUse>,
    /// Whether the session ends with its command. It is a service's then, which systemd has stopped or starts anew; else what the command
    /// left running goes on.
    #[serde(default)]
    pub ends_with_command: bool,
    /// What the daemon wants to know when it is started anew. Nobody else reads it.
    pub state: String,
}

/// Daemon to the shim of a session that runs. A shim may be older than the daemon: these messages stay as they are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "demand", rename_all = "snake_case")]
pub enum Demand {
    /// The session is the sender's from now on. Answered by [`Reply::Adopted`].
    Adopt,
    /// Open the listeners anew. Answered by [`Reply::Listening`].
    Listen,
    /// End the session. Answered by the end of the connection.
    End,
    /// End what a job has left running, as [`super::strays::Residents::end_strays`] does. On a connection of its own, which ends with
    /// the answer, [`Reply::StraysEnded`].
    EndStrays {
        /// The process that asks for it, on the host.
        caller: u32,
        /// Whether another job begins.
        settle: bool,
    },
    /// Say which process is the session's init. On a connection of its own, which ends with the answer, [`Reply::Init`].
    NameInit,
}

/// A directory by name and by what it is, because the name is looked up again in another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its absolute path.
    pub path: Octets,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What a listener of a session serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    Proxy,
    DnsTcp,
    DnsUdp,
}

/// Shim to daemon. A shim may be older than the daemon: these messages stay as they are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Cgroup, namespaces and listeners are there. With it: the listeners, in this order.
    Ready {
        /// What the BPF programs know the session by.
        cgroup_id: u64,
        /// What the listeners serve.
        listeners: Vec<Service>,
        /// Where they are.
        #[serde(default)]
        place: Place,
        /// The files that are about to be executed.
        #[serde(default)]
        programs: Vec<Program>,
    },
    /// The init runs; what follows is between it and the client.
    Launched,
    /// The session is the asker's.
    Adopted {
        /// [`Start::state`].
        state: String,
        /// How often this has been said, this time included.
        times: u32,
    },
    /// With it: the listeners, in this order.
    Listening {
        /// What they serve.
        listeners: Vec<Service>,
    },
    /// What a job has left running is killed.
    StraysEnded,
    /// The session's init: its number is its own for as long as the shim lives.
    Init {
        /// On the host.
        pid: u32,
    },
    /// What was to go is gone.
    Cleared,
    /// The program and all that it started are gone.
    HookEnded(HookEnd),
    /// It did not work.
    Failed { message: String },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn octets_come_back_as_they_went(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Octets(bytes.clone())).expect("serializes");
            let back: Octets = serde_json::from_str(&text).expect("parses");
            prop_assert_eq!(back.0, bytes);
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new(Zeroizing::new("secret".to_owned()));
        assert!(!format!("{token:?}").contains("secret"));
    }
}
