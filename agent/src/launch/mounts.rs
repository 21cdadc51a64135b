//! What a session's private mount namespace shows differently from the host's.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::mountinfo;

/// Where distributions keep the CA certificates everything trusts that no variable tells otherwise.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Services of the host behind Unix sockets that would resolve names past Holdpoint (nscd, resolved directly and over
/// D-Bus, Avahi), or start processes outside of the session for whoever may connect (systemd, container engines).
const HIDDEN: [&str; 17] = [
    "/run/nscd",
    "/var/run/nscd",
    "/run/systemd/resolve",
    "/run/systemd/private",
    "/run/avahi-daemon",
    "/run/dbus",
    "/run/user",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/run/crio",
    "/run/libvirt",
    "/run/snapd.socket",
    "/var/lib/lxd",
    "/var/snap/lxd/common/lxd",
    // Message queues of the host's IPC namespace, as files.
    "/dev/mqueue",
];

const RESOLV_CONF: &str = "# Holdpoint answers for this session.\nnameserver 127.0.0.1\n";

/// The most bytes of a CA bundle. Debian's has 220 KB.
const BUNDLE_LIMIT: u64 = 16 << 20;

/// The name of the CA bundle below the runtime directory, inside a session.
pub const BUNDLE_NAME: &str = "ca-bundle.pem";

/// Makes the caller's mount namespace private and puts the session's own files over the host's.
///
/// # Errors
/// When the bundle cannot be read or a mount fails; the namespace is of no use then.
pub fn isolate(runtime_dir: &Path, ca_bundle: &Path) -> anyhow::Result<()> {
    let bundle = read_bundle(ca_bundle)?;
    let bundles = existing(&SYSTEM_BUNDLES);
    // Where a symlink leads is asked before that place is hidden. A dangling one means 127.0.0.1 to resolvers (resolv.conf(5)).
    let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok();

    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("cannot make mounts private")?;
    detach_foreign_proc()?;
    for hidden in existing(&HIDDEN) {
        hide(&hidden)?;
    }
    show_own_files(runtime_dir, &bundle)?;
    for target in bundles {
        bind(&runtime_dir.join(BUNDLE_NAME), &target)?;
    }
    if let Some(target) = resolv_conf {
        recreate(&target)?;
        bind(&runtime_dir.join("resolv.conf"), &target)?;
    }
    Ok(())
}

/// Puts a procfs over `/proc` that shows the caller's PID namespace.
///
/// # Errors
/// When the mount fails.
pub fn own_proc() -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}

fn read_bundle(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bundle = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(BUNDLE_LIMIT + 1).read_to_end(&mut bundle))
        .with_context(|| format!("cannot read the CA bundle {}", path.display()))?;
    anyhow::ensure!(
        bundle.len() as u64 <= BUNDLE_LIMIT,
        "the CA bundle {} has more than {BUNDLE_LIMIT} bytes",
        path.display()
    );
    Ok(bundle)
}

/// Those that exist, by their real path, each once.
fn existing(paths: &[&str]) -> BTreeSet<PathBuf> {
    paths
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect()
}

/// A procfs mounted elsewhere (for a chroot, say) shows the host's processes: memory and descriptors of the same user's.
fn detach_foreign_proc() -> anyhow::Result<()> {
    let mounts = mountinfo::mounts().context("cannot read the mounts")?;
    for found in mounts.iter().rev().filter(|found| found.kind == "proc") {
        if found.point != Path::new("/proc") {
            umount2(&found.point, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot detach {}", found.point.display()))?;
        }
    }
    Ok(())
}

fn hide(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        empty_over(path)
    } else {
        // To connect to what is no socket is ECONNREFUSED.
        bind(Path::new("/dev/null"), path)
    }
}

fn empty_over(directory: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("holdpoint"),
        directory,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=32m"),
    )
    .with_context(|| format!("cannot cover {}", directory.display()))
}

/// The runtime directory without the daemon's sockets: a session can neither open another nor reach the control API.
fn show_own_files(runtime_dir: &Path, bundle: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(runtime_dir)
        .with_context(|| format!("cannot make {}", runtime_dir.display()))?;
    empty_over(runtime_dir)?;
    for (name, content) in [
        (BUNDLE_NAME, bundle),
        ("resolv.conf", RESOLV_CONF.as_bytes()),
    ] {
        let path = runtime_dir.join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o444)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Makes the file anew where hiding its directory has taken it away.
fn recreate(target: &Path) -> anyhow::Result<()> {
    let made = match target.parent() {
        Some(parent) if !target.exists() => fs::create_dir_all(parent).and_then(|()| {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(target)
                .map(drop)
        }),
        _ => Ok(()),
    };
    made.with_context(|| format!("cannot make {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .with_context(|| {
        format!(
            "cannot mount {} over {}",
            source.display(),
            target.display()
        )
    })
}
