//! The Debian package around the tree (deb(5), deb-control(5)).

use std::{
    env,
    fmt::Write as _,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};

use super::{Moment, done, file_names, stdout_of, tree};
use crate::setup::repository;

/// This packaging's own revision.
const REVISION: u32 = 1;
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// How small the package is to be (dpkg-deb(1)).
#[derive(Clone, Copy)]
pub enum Compression {
    /// As Debian's own packages.
    Good,
    /// For tests, which pack and unpack more than they keep, also on emulated machines.
    Quick,
}

/// Makes the package of what lies in `root`; answers where in `out` it is.
///
/// # Errors
/// When one of Debian's tools fails.
pub fn build(
    root: &Path,
    out: &Path,
    moment: Moment,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let version = format!("{}-{REVISION}", env!("CARGO_PKG_VERSION"));
    let architecture = stdout_of(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let maintainer = maintainer();
    let doc = root.join("usr/share/doc/holdpoint/changelog.Debian");
    tree::write(&doc, &changelog(&version, &maintainer, moment)?)?;
    tree::compress(&doc)?;

    let files = files(root)?;
    let values = [
        ("@VERSION@", version.as_str()),
        ("@ARCHITECTURE@", architecture),
        ("@MAINTAINER@", &maintainer),
        ("@INSTALLED_SIZE@", &kibibytes(root, &files)?.to_string()),
        ("@SHARED_LIBRARIES@", &shared_libraries(root, out)?),
    ];
    let sums = checksums(root, &files)?;
    let control = root.join("DEBIAN");
    tree::write(&control.join("control"), &filled("control", &values)?)?;
    tree::write(&control.join("md5sums"), &sums)?;
    tree::write(&control.join("conffiles"), &conffiles(&files))?;
    for script in SCRIPTS {
        let target = control.join(script);
        tree::write(&target, &filled(script, &[])?)?;
        fs::set_permissions(&target, Permissions::from_mode(0o755))?;
    }
    let package = out.join(format!("holdpoint_{version}_{architecture}.deb"));
    done(
        Command::new("dpkg-deb")
            .arg("--root-owner-group")
            .args(match compression {
                Compression::Good => ["-Zxz", "-z6"],
                Compression::Quick => ["-Zgzip", "-z1"],
            })
            .arg("--build")
            .arg(root)
            .arg(&package)
            .env("SOURCE_DATE_EPOCH", moment.0.to_string()),
    )?;
    Ok(package)
}

/// As Debian's own tools find it out.
fn maintainer() -> String {
    let name = env::var("DEBFULLNAME").unwrap_or_else(|_| "Holdpoint maintainers".into());
    let mail = env::var("DEBEMAIL").unwrap_or_else(|_| "maintainers@holdpoint.invalid".into());
    format!("{name} <{mail}>")
}

/// deb-changelog(5). What changed is in the changelog beside it.
fn changelog(version: &str, maintainer: &str, moment: Moment) -> anyhow::Result<String> {
    let date = Timestamp::from_second(moment.0)?.to_zoned(TimeZone::UTC);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
    Ok(format!(
        "holdpoint ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer}  {date}\n"
    ))
}

fn filled(name: &str, values: &[(&str, &str)]) -> anyhow::Result<String> {
    let source = repository().join("systemd/debian").join(name);
    let mut text =
        fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    for (place, value) in values {
        text = text.replace(place, value);
    }
    Ok(text)
}

/// All files of the package, from its root.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in file_names(&dir)? {
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn kibibytes(root: &Path, files: &[PathBuf]) -> anyhow::Result<u64> {
    files.iter().try_fold(0, |sum, file| {
        Ok(sum + fs::metadata(root.join(file))?.size().div_ceil(1024))
    })
}

fn checksums(root: &Path, files: &[PathBuf]) -> anyhow::Result<String> {
    let payload = files.iter().filter(|file| !file.starts_with("etc"));
    stdout_of(Command::new("md5sum").args(payload).current_dir(root))
}

fn conffiles(files: &[PathBuf]) -> String {
    let mut text = String::new();
    for file in files.iter().filter(|file| file.starts_with("etc")) {
        writeln!(text, "/{}", file.display()).expect("a string takes everything");
    }
    text
}

/// The packages with the libraries the program is linked with, in the versions it needs.
fn shared_libraries(root: &Path, out: &Path) -> anyhow::Result<String> {
    // The tool wants to be where a source package is.
    let place = tempfile::tempdir_in(out)?;
    tree::write(&place.path().join("debian/control"), "Source: holdpoint\n")?;
    let found = stdout_of(
        Command::new("dpkg-shlibdeps")
            .args(["--warnings=0", "-O"])
            .arg(root.join("usr/bin/holdpoint"))
            .current_dir(place.path()),
    )?;
    let found = found.trim().strip_prefix("shlibs:Depends=");
    Ok(found.context("dpkg-shlibdeps names no library")?.to_owned())
}
