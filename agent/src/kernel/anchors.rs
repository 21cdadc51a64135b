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
    AgentsCgroup,
    inspect::{self, LinkInfo},
    pins, programs,
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
    Detached(&'static str),
    /// A link with another program, or one that the kernel says nothing about any more.
    #[error("the link of the BPF program {0} is not what it was (was its program replaced?)")]
    Changed(&'static str),
}

#[derive(Debug)]
struct Held {
    program: &'static str,
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
    /// Takes hold of what [`super::Kernel::attach`] has pinned in `pin_dir`.
    ///
    /// # Errors
    /// When something is missing already, or not attached.
    pub fn hold(pin_dir: &Path, agents: &AgentsCgroup) -> anyhow::Result<Self> {
        let mut links = Vec::new();
        let mut places = vec![Place::at(agents.path.clone())?];
        for (program, _) in programs::PROGRAMS {
            let pin = pin_dir.join("links").join(program);
            let what = || format!("cannot hold the pinned link {}", pin.display());
            let link = inspect::open_link(&pin).with_context(what)?;
            let info = inspect::link_info(&link).with_context(what)?;
            anyhow::ensure!(info.cgroup != 0, Loss::Detached(program));
            places.push(Place::at(pin)?);
            links.push(Held {
                program,
                link,
                info,
            });
        }
        for map in pins::MAPS {
            places.push(Place::at(pin_dir.join("maps").join(map))?);
        }
        anyhow::ensure!(
            places[0].identity.1 == agents.id,
            Loss::Place(agents.path.clone())
        );
        Ok(Self {
            links,
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
    fn check(&self) -> Result<(), Loss> {
        match inspect::link_info(&self.link) {
            Ok(info) if info == self.info => Ok(()),
            Ok(info) if info.cgroup == 0 => Err(Loss::Detached(self.program)),
            Ok(_) | Err(_) => Err(Loss::Changed(self.program)),
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
        let agents = AgentsCgroup {
            path: dir.path().to_owned(),
            id: 1,
            level: 1,
        };
        assert!(Anchors::hold(dir.path(), &agents).is_err());
    }
}
