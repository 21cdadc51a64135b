//! Disks to boot from: a Debian with systemd and one of Debian's kernels, made of Debian's packages and kept.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::guest::{Kernel, Release};
use crate::{host, setup};

/// Besides the essential packages: what boots, what the package depends on, and what the tests use.
const PACKAGES: &str = "systemd,systemd-sysv,udev,kmod,initramfs-tools,busybox,linux-image-amd64,\
                        ca-certificates,curl,iproute2,passwd,procps";

/// Runs what the second disk brings, once, and then ends the machine.
const UNIT: &str = include_str!("guest-tests.service");

/// Nothing but the disk is needed to find the root file system.
const BEFORE_THE_KERNEL: &str = r#"
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=gzip\n' > "$1/etc/initramfs-tools/conf.d/guest"
printf 'virtio_pci\nvirtio_blk\next4\n' > "$1/etc/initramfs-tools/modules"
"#;

/// The kernel's release beside that of the userland, from the same archive, and of it the kernel only.
const KERNEL_FROM: &str = r#"
cd "$1/etc/apt"
sed "s/USERLAND/KERNEL/" sources.list > sources.list.d/kernel.list
printf 'Package: *\nPin: release n=KERNEL*\nPin-Priority: -1\n
Package: linux-image-* linux-base* linux-modules-*\nPin: release n=KERNEL*\nPin-Priority: 990\n' > preferences.d/kernel
"#;

/// In seconds; it takes two minutes on two busy cores.
const LIMIT: &str = "1200";
const AN_ARCHIVE_THAT_STALLS: [&str; 3] = [
    "--aptopt=Acquire::Retries \"3\"",
    "--aptopt=Acquire::http::Timeout \"30\"",
    "--aptopt=Acquire::https::Timeout \"30\"",
];
/// What nobody reads there.
const LEFT_OUT: [&str; 4] = [
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/holdpoint/*",
];

/// Drivers of hardware that the machine does not have are most of a kernel. A machine id: or systemd takes the boot for the first one.
const AFTERWARDS: &str = r#"
cd "$1/lib/modules"/*/kernel
rm -rf sound drivers/net/ethernet drivers/net/wireless drivers/net/usb drivers/net/can
find drivers -mindepth 1 -maxdepth 1 ! -name block ! -name char ! -name net ! -name vhost ! -name virtio -exec rm -r {} +
chroot "$1" depmod "$(basename "$(dirname "$PWD")")"
printf "127.0.0.1 localhost\n::1 localhost\n" > "$1/etc/hosts"
echo 00000000000000000000000000000001 > "$1/etc/machine-id"
cp UNIT "$1/etc/systemd/system/"
chroot "$1" systemctl --quiet enable guest-tests.service
"#;

/// For what a boot and the tests write, in MiB.
const SPACE: u64 = 600;

/// What to boot.
pub struct Image {
    pub vmlinuz: PathBuf,
    pub initrd: PathBuf,
    /// Never written to.
    pub disk: PathBuf,
}

/// The image for `kernel` on a host like `host`: made now, unless it is there. Below `cache`, by a digest of its recipe: packages
/// are as new as they were when it was made.
///
/// # Errors
/// When Debian's packages cannot be had, or do not make a system.
pub fn ready(kernel: Kernel, host: Release, cache: &Path) -> anyhow::Result<Image> {
    let userland = kernel.userland(host);
    let recipe = Recipe {
        kernel: kernel.from,
        userland,
    };
    let place = cache.join(format!("{}-{}", kernel.name, recipe.digest()));
    if !place.exists() {
        forget_older(cache, kernel)?;
        eprintln!(
            "making a Debian {} with the kernel of {} ...",
            userland.codename(),
            kernel.from.codename()
        );
        let next = cache.join(format!("{}.new", kernel.name));
        recipe
            .make(&next)
            .with_context(|| format!("cannot make the image for the kernel {}", kernel.name))?;
        fs::rename(&next, &place)?;
    }
    Ok(Image {
        vmlinuz: place.join("vmlinuz"),
        initrd: place.join("initrd"),
        disk: place.join("disk"),
    })
}

/// What an image is made of.
struct Recipe {
    kernel: Release,
    userland: Release,
}

impl Recipe {
    /// The hooks of mmdebstrap(1), each a shell script with the root file system as `$1`.
    fn hooks(&self, unit: &Path) -> Vec<(&'static str, String)> {
        let mut hooks = vec![
            ("essential", BEFORE_THE_KERNEL.to_owned()),
            (
                "customize",
                AFTERWARDS.replace("UNIT", &unit.display().to_string()),
            ),
        ];
        if self.kernel != self.userland {
            let hook = KERNEL_FROM
                .replace("USERLAND", self.userland.codename())
                .replace("KERNEL", self.kernel.codename());
            hooks.push(("setup", hook));
        }
        hooks
    }

    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let hooks = self.hooks(Path::new("guest-tests.service"));
        let hooks = hooks.iter().flat_map(|(when, script)| [*when, script]);
        let all = [self.userland.codename(), PACKAGES, UNIT];
        for text in all.into_iter().chain(LEFT_OUT).chain(hooks) {
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        hex::encode(&digest.finalize()[..6])
    }

    fn make(&self, place: &Path) -> anyhow::Result<()> {
        host::require_program("mmdebstrap", "mmdebstrap")?;
        host::require_program("mkfs.ext4", "e2fsprogs")?;
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir_all(place)?;
        let root = place.join("root");
        let unit = place.join("guest-tests.service");
        fs::write(&unit, UNIT)?;
        // What it mounts is gone with it, however it ends; told to end, it cleans up.
        let mut mmdebstrap = Command::new("unshare");
        mmdebstrap
            .args(["--mount", "--propagation", "private"])
            .args(["timeout", "--kill-after=30", LIMIT, "mmdebstrap"])
            .args(["--quiet", "--variant=minbase"])
            .args(AN_ARCHIVE_THAT_STALLS)
            .args(LEFT_OUT)
            .arg(format!("--include={PACKAGES}"))
            // Of a mirror that lags behind: signatures are checked all the same.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        for (when, script) in self.hooks(&unit) {
            let hook = place.join(when);
            fs::write(&hook, format!("#!/bin/sh\nset -eu\n{script}"))?;
            fs::set_permissions(&hook, Permissions::from_mode(0o755))?;
            mmdebstrap.arg(format!("--{when}-hook={}", hook.display()));
        }
        done(mmdebstrap.arg(self.userland.codename()).arg(&root)).with_context(|| {
            format!(
                "mmdebstrap made no Debian {}: can Debian's archive be reached from here? (a proxy is named in http_proxy; what it printed is above)",
                self.userland.codename()
            )
        })?;
        fs::copy(
            the_only(&root.join("boot"), "vmlinuz-")?,
            place.join("vmlinuz"),
        )?;
        fs::copy(
            the_only(&root.join("boot"), "initrd.img-")?,
            place.join("initrd"),
        )?;
        file_system(&root, &place.join("disk"), SPACE)?;
        fs::remove_dir_all(&root)?;
        Ok(())
    }
}

/// A disk with an ext4 file system of what lies in `root`, and of `space` MiB besides.
///
/// # Errors
/// When it cannot be made.
pub fn file_system(root: &Path, disk: &Path, space: u64) -> anyhow::Result<()> {
    let used = Command::new("du").args(["-sm"]).arg(root).output()?;
    let used = String::from_utf8(used.stdout)?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .and_then(|size| size.parse().ok())
        .with_context(|| format!("du tells no size of {}", root.display()))?;
    done(
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-d"])
            .arg(root)
            .arg(disk)
            // Nobody needs these, and they take time.
            .args(["-O", "^has_journal", "-m", "0"])
            .arg(format!("{}M", used + used / 4 + space)),
    )
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .current_dir(setup::repository())
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}

/// The file in `dir` whose name begins so.
fn the_only(dir: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    ensure!(found.len() == 1, "expected one {prefix}*: {found:?}");
    found.pop().context("one")
}

/// Images of the same kernel by other recipes are of no use any more.
fn forget_older(cache: &Path, kernel: Kernel) -> anyhow::Result<()> {
    fs::create_dir_all(cache)?;
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with(&format!("{}-", kernel.name))
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_recipe_is_another_image() {
        let of = |kernel, userland| Recipe { kernel, userland }.digest();
        let same = of(Release::Bookworm, Release::Bookworm);
        assert_eq!(same, of(Release::Bookworm, Release::Bookworm));
        assert_ne!(same, of(Release::Bullseye, Release::Bookworm));
        assert_ne!(same, of(Release::Trixie, Release::Trixie));
    }
}
