//! A session from outside: its cgroup and its namespaces, held so that they stay the same ones.

use std::{
    fs::{self, File},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sched::{CloneFlags, setns},
    sys::stat::{SFlag, fstat},
};

use super::super::{bind::Bind, birth::Birth};
use crate::{
    launch::{keep, sandbox::Identity},
    mountinfo,
};

/// A session's.
pub struct Inside {
    /// Its cgroup, from the root of cgroup2.
    cgroup: PathBuf,
    directory: PathBuf,
    network: File,
    mounts: File,
    user: Identity,
}

impl Inside {
    /// Opens it by its init.
    ///
    /// # Errors
    /// When the session has ended meanwhile, or has no network of its own.
    pub fn open(birth: &Birth) -> anyhow::Result<Self> {
        let mounts = mountinfo::mounts().context("cannot read the mounts")?;
        let cgroup = mountinfo::below_cgroup2(&mounts, &birth.cgroup)
            .with_context(|| format!("{} is in no cgroup2 file system", birth.cgroup.display()))?;
        let namespace = |kind: &str| {
            File::open(format!("/proc/{}/ns/{kind}", birth.init)).context("the session has ended")
        };
        let inside = Self {
            network: namespace("net")?,
            mounts: namespace("mnt")?,
            cgroup: cgroup.to_owned(),
            directory: birth.cgroup.clone(),
            user: Identity {
                uid: birth.uid,
                gid: birth.gid,
                groups: Vec::new(),
            },
        };
        // Had its number come to be another's, that one would be elsewhere.
        anyhow::ensure!(
            cgroup_of(birth.init)? == inside.cgroup,
            "the session has ended"
        );
        anyhow::ensure!(birth.uid != 0, "root is not held in a session");
        anyhow::ensure!(
            inside.network.metadata()?.ino() != fs::metadata("/proc/self/ns/net")?.ino(),
            "the session is in the host's network, and containers have no other there: sessions of `holdpoint run` have"
        );
        Ok(inside)
    }

    /// Its cgroup, as the runtime is told it: one below the session's.
    pub fn cgroups_path(&self, container: &str) -> PathBuf {
        Path::new("/")
            .join(&self.cgroup)
            .join(format!("container-{container}"))
    }

    /// Its network, as the runtime is told it, for as long as this process lives.
    pub fn network_path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.network.as_raw_fd()
        )
        .into()
    }

    /// Moves the calling process into the session's cgroup: what it starts begins there, and ends with it.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn join(&self) -> anyhow::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), "0").context("the session has ended")
    }

    /// Whether a process is in the session's cgroup and network, and in no user namespace of its own.
    ///
    /// # Errors
    /// When it is not, or gone.
    pub fn holds(&self, pid: u32) -> anyhow::Result<()> {
        let namespace = |kind: &str| -> anyhow::Result<u64> {
            let found = fs::metadata(format!("/proc/{pid}/ns/{kind}"));
            Ok(found
                .context("the container's first process is gone")?
                .ino())
        };
        anyhow::ensure!(
            cgroup_of(pid)?.starts_with(&self.cgroup),
            "the container is in another cgroup than its session"
        );
        anyhow::ensure!(
            namespace("net")? == self.network.metadata()?.ino(),
            "the container is in another network than its session"
        );
        anyhow::ensure!(
            namespace("user")? == fs::metadata("/proc/self/ns/user")?.ino(),
            "the container is in a user namespace of its own"
        );
        Ok(())
    }

    /// A copy of what a session shows at a place, with all that is mounted below it: found as the session's user in the session's own
    /// view, and held, whatever becomes of that place.
    ///
    /// # Errors
    /// When it is not there, or neither a directory nor a file.
    pub fn view(&self, bind: &Bind) -> anyhow::Result<View> {
        let own = File::open("/proc/self/ns/mnt")?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)
            .context("cannot enter the session's mounts")?;
        let taken = self.take(Path::new(&bind.source));
        setns(&own, CloneFlags::CLONE_NEWNS).context("cannot leave the session's mounts")?;
        let unshown = || format!("{} cannot be shown to the container", bind.source);
        let (view, place) = taken.with_context(unshown)?;
        // Links may have led anywhere.
        let found = fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        let found = found
            .to_str()
            .context("its path is not UTF-8")
            .with_context(unshown)?;
        Bind::new(found, &bind.destination, bind.read_only)
            .map_err(anyhow::Error::msg)
            .with_context(unshown)?;
        Ok(view)
    }

    fn take(&self, source: &Path) -> anyhow::Result<(View, OwnedFd)> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let opened = keep::as_caller(&self.user, || openat2(AT_FDCWD, source, how))?;
        let place = opened.context("it is not there, or not the session's user's to reach")?;
        let kind = SFlag::from_bits_truncate(fstat(&place)?.st_mode & SFlag::S_IFMT.bits());
        let is_directory = kind == SFlag::S_IFDIR;
        anyhow::ensure!(
            is_directory || kind == SFlag::S_IFREG,
            "it is neither a directory nor a file"
        );
        let view = View {
            mount: super::stage::copy_of(&place).context("its mount cannot be copied")?,
            is_directory,
        };
        Ok((view, place))
    }
}

/// See [`Inside::view`].
pub struct View {
    /// Mounted nowhere.
    pub mount: OwnedFd,
    /// Or a file.
    pub is_directory: bool,
}

/// From the root of cgroup2 (cgroups(7)).
fn cgroup_of(pid: u32) -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("the process is gone")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(own
        .context("the process is in no cgroup of version 2")?
        .into())
}
