//! Landlock: UNIX sockets of processes outside of the session, wherever they are and whenever they were made (Linux 7.1).
//!
//! Older kernels do not know this right; there, what mounts cover is all that is out of reach. Abstract sockets have no place in the file
//! system: they belong to a network namespace, so in the host's there has to be Landlock (Linux 6.12).

use std::path::PathBuf;

use anyhow::Context as _;
use landlock::{
    AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope,
};

use super::network::Network;

/// From now on the calling process and all that come from it connect to each other's sockets and to those in `allowed`.
///
/// # Errors
/// When the kernel knows Landlock and refuses; in the host's network, also when it does not know enough of it.
pub fn confine(allowed: impl Iterator<Item = PathBuf>, network: Network) -> anyhow::Result<()> {
    // What does not exist cannot be allowed.
    let allowed = allowed.filter_map(|path| PathFd::new(path).ok());
    let restrict = || {
        let mut rules = Ruleset::default().handle_access(AccessFs::ResolveUnix)?;
        if network == Network::Host {
            rules = rules
                .set_compatibility(CompatLevel::HardRequirement)
                .scope(Scope::AbstractUnixSocket)?
                .set_compatibility(CompatLevel::BestEffort);
        }
        let mut rules = rules.create()?;
        for path in allowed {
            rules = rules.add_rule(PathBeneath::new(path, AccessFs::ResolveUnix))?;
        }
        rules.restrict_self()
    };
    let what = match network {
        Network::Own => "cannot confine by Landlock",
        Network::Host => {
            "cannot confine by Landlock, without which a session in the host's network reaches its abstract sockets (that takes Linux 6.12)"
        }
    };
    restrict().map(drop).context(what)
}
