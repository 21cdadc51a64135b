//! From root to the caller, for good.

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{message::Start, sys};

/// Makes the calling process the caller's: its resource limits, its groups, its user; no capability in any set.
///
/// # Errors
/// When any of it fails; the process must not go on.
pub fn become_caller(start: &Start) -> anyhow::Result<()> {
    limit(&start.limits).context("cannot set the caller's resource limits")?;
    become_user(start.uid, start.gid, &start.groups)
}

/// Makes the calling process this user's: its groups, its user; no capability in any set.
///
/// # Errors
/// When any of it fails; the process must not go on.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> anyhow::Result<()> {
    let mut capability = 0;
    while sys::drop_from_bounding_set(capability).context("cannot empty the bounding set")? {
        capability += 1;
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    anyhow::ensure!(!uid.is_root(), "root cannot be held in a session");
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("cannot set the caller's supplementary groups")?;
    setresgid(gid, gid, gid).context("cannot become the caller's group")?;
    setresuid(uid, uid, uid).context("cannot become the caller")?;
    sys::keep_capabilities(0).context("cannot give up capabilities")?;
    anyhow::ensure!(
        setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err(),
        "privileges could be regained after they were given up"
    );
    Ok(())
}

/// The one size of cores with which the kernel neither writes one nor starts a handler for it (`coredump_pipe` in fs/coredump.c; 0
/// only does the former). A handler would be root's, outside, fed by the session. The filter keeps the limit so.
const NO_CORES: u64 = 1;

/// The caller's limits, but never more than Holdpoint has itself.
fn limit(limits: &[sys::Limit]) -> std::io::Result<()> {
    let own = sys::own_limits()?;
    for &(resource, soft, hard) in limits {
        let most = own
            .iter()
            .find(|limit| limit.0 == resource)
            .map_or(hard, |limit| limit.2);
        let (soft, hard) = match resource {
            libc::RLIMIT_CORE => (NO_CORES, NO_CORES.min(most)),
            _ => (soft, hard.min(most)),
        };
        sys::set_limit((resource, soft.min(hard), hard))?;
    }
    Ok(())
}
