//! Who is calling, as the kernel and the host's user database tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use holdpoint_core::approval::{Reviewer, known_as};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{self, Gid, Group, Uid},
};
use tokio::net::{UnixStream, unix::UCred};

use super::{ControlState, Logins, logins, membership::AgentsCgroup};
use crate::{config::Reviewers, session::User};

/// A process outside of all sessions.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user: User,
    /// The reviewer groups the user belongs to.
    pub(super) groups: BTreeSet<String>,
    /// What else the person is called.
    names: BTreeSet<String>,
}

impl Caller {
    /// Whether what belongs to other users is shown too.
    pub(super) fn sees_all(&self) -> bool {
        self.user.uid == 0 || !self.groups.is_empty()
    }

    pub(super) fn sees(&self, owner: &User) -> bool {
        self.sees_all() || owner.uid == self.user.uid
    }

    pub(super) fn reviewer(&self) -> Reviewer {
        Reviewer {
            uid: Some(self.user.uid),
            name: self.user.name.clone(),
            groups: self.groups.clone(),
            names: self.names.clone(),
        }
    }
}

/// A process that may do nothing here.
#[derive(Clone, Debug)]
pub(super) struct Stranger {
    pub(super) user: User,
    pub(super) pid: Option<u32>,
    pub(super) reason: String,
}

/// Finds out who is at the other end.
pub(super) async fn identify(
    stream: &UnixStream,
    peer: &UCred,
    agents: &AgentsCgroup,
    state: &ControlState,
) -> Result<Caller, Stranger> {
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    let place = place_of(stream, pid, agents);
    let (uid, gid) = (peer.uid(), peer.gid());
    let reviewers = state.reviewers.clone();
    // The user database may be on the network.
    let looked_up = tokio::task::spawn_blocking(move || look_up(uid, gid, &reviewers)).await;
    let (user, mut groups) = looked_up.unwrap_or_else(|_| (nameless(uid, gid), BTreeSet::new()));
    let mut names = known_as([&user.name]);
    if let Some(login) = state.logins.of(uid) {
        groups.extend(logins::groups_of(&login.person, &state.reviewers));
        names.extend(state.logins.names(&login.person));
    }
    match place {
        Ok(false) => Ok(Caller {
            user,
            groups,
            names,
        }),
        Ok(true) => Err(Stranger {
            user,
            pid,
            reason: "a process inside a session may not use the control socket; ask from outside of the session"
                .into(),
        }),
        Err(error) => Err(Stranger {
            user,
            pid,
            reason: format!(
                "it cannot be told whether the calling process is inside a session ({error}); \
                 call again from a process that stays until it has the answer"
            ),
        }),
    }
}

/// Whether the process is inside a session. It has to be alive after its cgroup was read: else the number might
/// be another process's by then.
fn place_of(stream: &UnixStream, pid: Option<u32>, agents: &AgentsCgroup) -> io::Result<bool> {
    let pid = pid
        .filter(|pid| *pid != 0)
        .ok_or_else(|| io::Error::other("it is in a PID namespace of its own"))?;
    let process = peer_pidfd(stream).or_else(|error| match error.raw_os_error() {
        // Before Linux 6.5. The process could have gone since it connected, and its number been given away.
        Some(libc::ENOPROTOOPT) => open_pidfd(pid),
        _ => Err(error),
    })?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut exited = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    if poll(&mut exited, PollTimeout::ZERO)? != 0 {
        return Err(io::Error::other("it has exited"));
    }
    agents
        .contains(&cgroups)
        .ok_or_else(|| io::Error::other("it has no cgroup2 line in /proc"))
}

/// A handle of the very process that connected (socket(7), `SO_PEERPIDFD`; include/uapi/asm-generic/socket.h).
fn peer_pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of_val(&fd)).expect("four");
    // SAFETY: the kernel writes at most `length` bytes to `fd`, and `length` is its size.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that `fd` is an open descriptor that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that `fd` is an open descriptor that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The reviewer groups of a user, with and without a login.
pub(crate) fn groups_of(
    uid: u32,
    reviewers: &BTreeMap<String, Reviewers>,
    logins: &Logins,
) -> BTreeSet<String> {
    let (_, mut groups) = look_up(uid, 0, reviewers);
    if let Some(login) = logins.of(uid) {
        groups.extend(logins::groups_of(&login.person, reviewers));
    }
    groups
}

/// The user, and the reviewer groups it belongs to. A user without a name belongs to none.
fn look_up(
    uid: u32,
    gid: u32,
    reviewers: &BTreeMap<String, Reviewers>,
) -> (User, BTreeSet<String>) {
    let Ok(Some(entry)) = unistd::User::from_uid(Uid::from_raw(uid)) else {
        return (nameless(uid, gid), BTreeSet::new());
    };
    let unix_groups = CString::new(entry.name.as_str())
        .ok()
        .and_then(|name| unistd::getgrouplist(&name, entry.gid).ok())
        .unwrap_or_default();
    let is_in = |reviewers: &Reviewers| {
        let by_name = reviewers.users.contains(&entry.name);
        by_name
            || reviewers
                .unix_groups
                .iter()
                .any(|name| is_member(name, &unix_groups))
    };
    let groups = reviewers
        .iter()
        .filter(|(_, reviewers)| is_in(reviewers))
        .map(|(group, _)| group.clone())
        .collect();
    let name = entry.name;
    (User { uid, gid, name }, groups)
}

fn is_member(name: &str, groups: &[Gid]) -> bool {
    matches!(Group::from_name(name), Ok(Some(group)) if groups.contains(&group.gid))
}

fn nameless(uid: u32, gid: u32) -> User {
    User {
        uid,
        gid,
        name: uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewers(users: &[&str], unix_groups: &[&str]) -> BTreeMap<String, Reviewers> {
        let reviewers = Reviewers {
            users: users.iter().map(|name| (*name).to_owned()).collect(),
            unix_groups: unix_groups.iter().map(|name| (*name).to_owned()).collect(),
            oidc: Vec::new(),
        };
        BTreeMap::from([("dba".to_owned(), reviewers)])
    }

    #[test]
    fn root_counts_only_where_it_is_listed() {
        let (user, groups) = look_up(0, 0, &reviewers(&["daemon"], &["daemon"]));
        assert_eq!((user.name.as_str(), groups.len()), ("root", 0));
        let (_, groups) = look_up(0, 0, &reviewers(&["root"], &[]));
        assert_eq!(groups, BTreeSet::from(["dba".to_owned()]));
    }

    #[test]
    fn members_of_a_unix_group_count() {
        let daemon = unistd::User::from_name("daemon")
            .expect("readable")
            .expect("on every host");
        let (uid, gid) = (daemon.uid.as_raw(), daemon.gid.as_raw());
        assert_eq!(look_up(uid, gid, &reviewers(&[], &["daemon"])).1.len(), 1);
        assert_eq!(
            look_up(uid, gid, &reviewers(&[], &["no-such-group"]))
                .1
                .len(),
            0
        );
    }

    #[test]
    fn a_number_is_not_a_name() {
        let (user, groups) = look_up(987_654, 987_654, &reviewers(&["987654"], &[]));
        assert_eq!((user.name.as_str(), groups.len()), ("987654", 0));
    }
}
