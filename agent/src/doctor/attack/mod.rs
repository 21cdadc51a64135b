//! What is tried against a sandbox: each attack is a small program of its own, run once outside, where it has to work, and
//! once inside, where it must not.

mod calls;
mod devices;
mod disguises;
mod families;
mod files;
mod mounting;
mod names;
mod namespaces;
mod nearby;
mod packets;
mod privileges;
mod processes;
mod routes;
mod runner;
mod secrets;
mod services;
mod shared;
mod sockets;
mod traffic;
mod victim;
mod web;

use std::io;

use serde::{Deserialize, Serialize};

pub use runner::{Outcome, Tried, main};
pub(super) use secrets::VARIABLES;
pub(super) use services::STAND_INS;
pub(super) use shared::STAND_INS as SHARED_STAND_INS;
pub(super) use traffic::other as other_socket;
pub use victim::Victim;
pub(super) use victim::{SECRET, VARIABLE};

/// One way out.
pub struct Attack {
    /// Its name: lower-case letters, digits and hyphens, because it travels in DNS labels too.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// What tells that it worked.
    pub goal: Goal,
    way: fn(&Scene) -> io::Result<()>,
}

/// What tells that an attack worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// What it sent has arrived at one of the doctor's listeners.
    Arrive,
    /// The kernel did what was asked for.
    Succeed,
    /// No attack: this has to arrive from inside as well, or the sandbox is merely dead.
    Pass,
}

const fn arrive(
    name: &'static str,
    what: &'static str,
    way: fn(&Scene) -> io::Result<()>,
) -> Attack {
    let goal = Goal::Arrive;
    Attack {
        name,
        what,
        goal,
        way,
    }
}

const fn succeed(
    name: &'static str,
    what: &'static str,
    way: fn(&Scene) -> io::Result<()>,
) -> Attack {
    let goal = Goal::Succeed;
    Attack {
        name,
        what,
        goal,
        way,
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [
        web::CONTROLS,
        traffic::ATTACKS,
        packets::ATTACKS,
        routes::ATTACKS,
        families::ATTACKS,
        nearby::ATTACKS,
        names::ATTACKS,
        web::ATTACKS,
        sockets::ATTACKS,
        services::ATTACKS,
        shared::ATTACKS,
        processes::ATTACKS,
        namespaces::ATTACKS,
        mounting::ATTACKS,
        calls::ATTACKS,
        disguises::ATTACKS,
        privileges::ATTACKS,
        devices::ATTACKS,
        files::ATTACKS,
        secrets::ATTACKS,
    ]
    .into_iter()
    .flatten()
}

/// What the attacker is told; it knows the whole source anyway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What everything sent in this pass begins with.
    pub mark: String,
    /// The names of the attacks to be tried.
    pub attacks: Vec<String>,
    /// A process of the same user outside.
    pub victim: Victim,
    /// The process id of the daemon.
    pub daemon: u32,
    /// Where the cgroup2 hierarchy is mounted.
    pub cgroup2: std::path::PathBuf,
    /// The key of a shared memory segment outside.
    pub shared_memory: i32,
}

/// What one attack works with.
struct Scene {
    plan: Plan,
    name: &'static str,
}

impl Scene {
    /// What to send: it tells who sent it, and when.
    fn mark(&self) -> String {
        format!("{}-{}", self.plan.mark, self.name)
    }

    /// The mark as a line.
    fn line(&self) -> Vec<u8> {
        format!("{}\n", self.mark()).into_bytes()
    }
}

/// A refusal of the attacker's own.
fn no(why: &str) -> io::Error {
    io::Error::other(why)
}

/// What a kernel without the feature would say, where the host has switched it off for root as well.
fn lacking_if(switch: &str, off: &str, error: io::Error) -> io::Error {
    match std::fs::read_to_string(switch) {
        Ok(value) if value.trim() == off => io::Error::from_raw_os_error(libc::ENOSYS),
        _ => error,
    }
}

/// A system call's answer in C's convention.
fn check<T: PartialEq + From<i8>>(returned: T) -> io::Result<T> {
    if returned == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_labels_and_no_two_are_alike() {
        let mut seen = BTreeSet::new();
        for attack in all() {
            assert!(seen.insert(attack.name), "{} is there twice", attack.name);
            assert!(
                attack
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{}",
                attack.name
            );
            // With the mark before it, it has to fit into a DNS label.
            assert!(attack.name.len() <= 40, "{}", attack.name);
            assert!(!attack.what.is_empty());
        }
        assert!(seen.len() >= 60, "only {}", seen.len());
    }
}
