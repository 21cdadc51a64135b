//! What enforcement hangs on once the programs are attached: links, their pins, and the cgroups they decide by.
//!
//! A pinned link is gone when its pin is removed or its bpffs unmounted, unless somebody else holds it; one that is held still can be
//! detached by force (`BPF_LINK_DETACH`) or given another program (`BPF_LINK_UPDATE`). So all of them are held here, and looked at.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    AgentsCgroup, PinnedLink,
    inspect::{self, LinkInfo},
};

/// All of it, as it was when the programs were proved to enforce. For as long as this lives, the programs stay attached without
/// their pins.
#[derive(Debug)]
pub struct Anchors {
    links: Vec<Held>,
    places: Vec<Place>,
    agents: File,
}

/// What is no longer as it was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// A pin, or the cgroup of the sessions.
    #[error(
        "{} is gone, or something else is in its place (was it removed, or its file system unmounted?)",
        .0.display()
    )]
    Place(PathBuf),
    /// A link without its cgroup.
    #[error("the BPF program {0} was detached by force")]
    Detached(String),
    /// A link with another program, or one that the kernel says nothing about any more.
    #[error("the link of the BPF program {0} is not what it was (was its program replaced?)")]
    Changed(String),
}

#[derive(Debug)]
struct Held {
    program: String,
    link: OwnedFd,
    info: LinkInfo,
}

/// A file or directory that has to stay the one it is.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Anchors {
    /// Takes hold of links that are pinned, and of the maps pinned in `maps`.
    ///
    /// # Errors
    /// When something is missing already, or not attached.
    pub fn hold(links: &[PinnedLink], maps: &Path, agents: &AgentsCgroup) -> anyhow::Result<Self> {
        let cgroup = Place::at(agents.path.clone())?;
        anyhow::ensure!(cgroup.identity.1 == agents.id, Loss::Place(cgroup.path));
        let mut places = vec![cgroup];
        for link in links {
            places.push(Place::at(link.pin.clone())?);
        }
        for map in fs::read_dir(maps)? {
            places.push(Place::at(map?.path())?);
        }
        Ok(Self {
            links: links
                .iter()
                .map(Held::open)
                .collect::<anyhow::Result<_>>()?,
            places,
            agents: File::open(&agents.path)?,
        })
    }

    /// Looks whether all is as it was. Takes no descriptor, so it works when there are none left; some 30 system calls.
    ///
    /// # Errors
    /// Says what is not.
    pub fn check(&self) -> Result<(), Loss> {
        self.links.iter().try_for_each(Held::check)?;
        self.places.iter().try_for_each(Place::check)
    }

    /// The cgroup of the sessions, by a path that leads to it even when it is mounted nowhere any more.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.agents.as_raw_fd().to_string())
    }
}

impl Held {
    fn open(pinned: &PinnedLink) -> anyhow::Result<Self> {
        let what = || format!("cannot hold the pinned link {}", pinned.pin.display());
        let link = inspect::open_link(&pinned.pin).with_context(what)?;
        let info = inspect::link_info(&link).with_context(what)?;
        anyhow::ensure!(info.cgroup != 0, Loss::Detached(pinned.program.clone()));
        Ok(Self {
            program: pinned.program.clone(),
            link,
            info,
        })
    }

    fn check(&self) -> Result<(), Loss> {
        match inspect::link_info(&self.link) {
            Ok(info) if info == self.info => Ok(()),
            Ok(info) if info.cgroup == 0 => Err(Loss::Detached(self.program.clone())),
            Ok(_) | Err(_) => Err(Loss::Changed(self.program.clone())),
        }
    }
}

impl Place {
    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let identity =
            identity(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Self { path, identity })
    }

    fn check(&self) -> Result<(), Loss> {
        match identity(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            // Passes, and says nothing of the place.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Ok(()),
            Ok(_) | Err(_) => Err(Loss::Place(self.path.clone())),
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_made_again_is_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pin");
        fs::write(&path, "").expect("a file");
        let place = Place::at(path.clone()).expect("it is there");
        assert_eq!(place.check(), Ok(()));
        let other = dir.path().join("other");
        fs::write(&other, "").expect("a file");
        fs::rename(&other, &path).expect("in its place");
        assert_eq!(place.check(), Err(Loss::Place(path.clone())));
        fs::remove_file(&path).expect("removed");
        assert_eq!(place.check(), Err(Loss::Place(path)));
    }

    #[test]
    fn what_was_never_attached_cannot_be_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let pin = dir.path().join("connect4");
        fs::write(&pin, "").expect("a file");
        let link = PinnedLink {
            program: "connect4".into(),
            attach_type: "cgroup_inet4_connect".into(),
            pin,
        };
        assert!(Held::open(&link).is_err());
    }
}
