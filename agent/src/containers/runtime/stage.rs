//! Where a container's own files and its session's lie ready to be mounted: in a mount namespace of this process's own, so that nobody
//! else sees them, and nothing of it is left.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{super::birth::Birth, inside::Inside};
use crate::launch::trust::{BUNDLE_NAME, TRUSTSTORE_NAME};

const NOTHING: Option<&str> = None;
const RESOLV_CONF: &str = "# Holdpoint answers for this session.\nnameserver 127.0.0.1\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// What lies ready.
pub struct Staged {
    directory: PathBuf,
    /// The session's, in their order.
    pub binds: Vec<PathBuf>,
    /// Whether there is a truststore.
    pub has_truststore: bool,
}

impl Staged {
    /// One of Holdpoint's own files.
    pub fn own(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Names of Holdpoint's own files.
pub const OWN_RESOLV_CONF: &str = "resolv.conf";
/// The same.
pub const OWN_HOSTS: &str = "hosts";

/// Lays it ready. From here on this process has mounts of its own.
///
/// # Errors
/// When something is not there or cannot be mounted.
pub fn set(bundle: &Path, birth: &Birth, inside: &Inside) -> anyhow::Result<Staged> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(NOTHING, "/", NOTHING, slave, NOTHING).context("cannot keep mounts to this process")?;
    // Elsewhere it is an empty directory, which the engine removes with the bundle.
    let directory = bundle.join("holdpoint");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("mode=0755,size=64m");
    mount(Some("holdpoint"), &directory, Some("tmpfs"), flags, options)
        .context("cannot mount a tmpfs")?;

    write(&directory.join(OWN_RESOLV_CONF), RESOLV_CONF.as_bytes())?;
    write(&directory.join(OWN_HOSTS), HOSTS.as_bytes())?;
    copy(&birth.ca_bundle, &directory.join(BUNDLE_NAME))?;
    if let Some(truststore) = &birth.truststore {
        copy(truststore, &directory.join(TRUSTSTORE_NAME))?;
    }
    let mut binds = Vec::new();
    for (index, bind) in birth.binds.iter().enumerate() {
        let view = inside.view(bind)?;
        let place = directory.join(format!("bind-{index}"));
        match view.is_directory {
            true => fs::create_dir(&place)?,
            false => write(&place, b"")?,
        }
        move_to(&view.mount, &place)
            .with_context(|| format!("{} cannot be mounted", bind.source))?;
        binds.push(place);
    }
    Ok(Staged {
        directory,
        binds,
        has_truststore: birth.truststore.is_some(),
    })
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &content)
}

/// For everybody to read, whatever the engine's umask.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o444)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A copy of the mount that something lies in, with that as its root and with the mounts below it (open_tree(2), Linux 5.2). It can be
/// mounted in another mount namespace, which what open(2) gives cannot.
///
/// # Errors
/// What the kernel says.
pub fn copy_of(place: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    // SAFETY: an open descriptor and a string that ends in NUL; the call keeps neither.
    let made =
        unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) };
    let made = i32::try_from(made).unwrap_or(-1);
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this process, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Mounts such a copy (move_mount(2)).
fn move_to(mount: &OwnedFd, place: &Path) -> io::Result<()> {
    let place = CString::new(place.as_os_str().as_bytes())?;
    // SAFETY: an open descriptor and strings that end in NUL; the call keeps none of them.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    match moved {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
