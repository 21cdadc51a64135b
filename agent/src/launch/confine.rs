//! Landlock: UNIX sockets of processes outside of the session, wherever they are and whenever they were made (Linux 7.1).
//!
//! Older kernels do not know this right; there, what mounts cover is all that is out of reach.

use std::path::PathBuf;

use anyhow::Context as _;
use landlock::{AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _};

/// From now on the calling process and all that come from it connect to each other's sockets and to those in `allowed`.
///
/// # Errors
/// When the kernel knows Landlock and refuses.
pub fn confine(allowed: impl Iterator<Item = PathBuf>) -> anyhow::Result<()> {
    // What does not exist cannot be allowed.
    let allowed = allowed.filter_map(|path| PathFd::new(path).ok());
    let restrict = || {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::ResolveUnix)?
            .create()?;
        for path in allowed {
            rules = rules.add_rule(PathBeneath::new(path, AccessFs::ResolveUnix))?;
        }
        rules.restrict_self()
    };
    restrict().map(drop).context("cannot confine by Landlock")
}
