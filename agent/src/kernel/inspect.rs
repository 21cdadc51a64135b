//! What is pinned and attached, as the kernel tells, without loading anything.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    AgentsCgroup,
    programs::PROGRAMS,
    prove,
    sys::{self, Command},
};

/// A program that should be pinned, and what became of it.
#[derive(Debug)]
pub struct Inspected {
    /// The program's name.
    pub program: &'static str,
    /// Where its link should be pinned.
    pub pin: PathBuf,
    /// The cgroup it is attached to. 0: it was detached by force.
    pub cgroup: io::Result<u64>,
}

/// Looks at the pinned links of all programs.
#[must_use]
pub fn links(pin_dir: &Path) -> Vec<Inspected> {
    let dir = pin_dir.join("links");
    PROGRAMS
        .iter()
        .map(|(program, _)| {
            let pin = dir.join(program);
            let cgroup = attached_to(&pin);
            Inspected {
                program,
                pin,
                cgroup,
            }
        })
        .collect()
}

/// Tries, in a child process below the agents' cgroup and in no session, what has to be refused there; tells how much that was.
///
/// # Errors
/// When something is not refused, or cannot be tried.
pub fn try_enforcement(agents: &AgentsCgroup) -> anyhow::Result<u64> {
    prove::all_refused(agents)
}

/// `struct bpf_link_info` of linux/bpf.h, as far as it goes for cgroups.
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    /// 0: it was detached by force.
    pub cgroup: u64,
    attach_type: u32,
    reserved_too: u32,
}

fn attached_to(pin: &Path) -> io::Result<u64> {
    Ok(link_info(&open_link(pin)?)?.cgroup)
}

/// Opens what is pinned there.
pub(super) fn open_link(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // pathname, bpf_fd and file_flags.
    sys::open(Command::ObjGet, &[sys::pointer(path.as_ptr()), 0])
}

/// What the kernel says of a link to a cgroup.
pub(super) fn link_info(link: &OwnedFd) -> io::Result<LinkInfo> {
    /// `enum bpf_link_type` of linux/bpf.h.
    const BPF_LINK_TYPE_CGROUP: u32 = 3;
    let mut info = LinkInfo::default();
    let size = size_of::<LinkInfo>() as u64;
    // bpf_fd and info_len, then info.
    let attributes = [
        sys::pair(link.as_raw_fd() as u32, size as u32),
        sys::pointer(&raw mut info),
    ];
    sys::call(Command::ObjGetInfoByFd, &attributes)?;
    if info.kind == BPF_LINK_TYPE_CGROUP {
        Ok(info)
    } else {
        Err(io::Error::other("it is no link to a cgroup"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let links = links(dir.path());
        assert_eq!(links.len(), PROGRAMS.len());
        assert!(links.iter().all(|link| link.cgroup.is_err()));
    }
}
