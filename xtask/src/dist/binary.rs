//! The program of the package.

use std::{
    env, fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{done, file_names, stdout_of};
use crate::{
    host,
    setup::{self, cargo},
};

/// The oldest Debian with a kernel that Holdpoint runs on: what is linked with its C library runs on all later ones.
/// (Not a static one: people and groups are looked up by the host's own NSS modules.)
const OLDEST_DEBIAN: &str = "bullseye";
const OLDEST_GLIBC: Glibc = Glibc(2, 31);

/// The debug build. (Of the whole workspace with all features, as the tests have it: a smaller choice would build much of it twice.)
///
/// # Errors
/// When it does not build.
pub fn debug() -> anyhow::Result<PathBuf> {
    let line = "build --quiet --locked --workspace --all-features --bin holdpoint";
    done(&mut cargo(line))?;
    Ok(setup::built("debug").join("holdpoint"))
}

/// The release build, linked with the C library of [`OLDEST_DEBIAN`], without a trace of where it was built.
///
/// # Errors
/// When it does not build, or that C library cannot be had.
pub fn release() -> anyhow::Result<PathBuf> {
    let triple = triple()?;
    let place = setup::built("dist");
    let sysroot = sysroot(&place.join(format!("sysroot-{OLDEST_DEBIAN}")))?;
    let libraries = sysroot.join("usr/lib").join(multiarch()?);
    let (sysroot, libraries) = (sysroot.display(), libraries.display());
    let link = [
        format!("-Clink-arg=--sysroot={sysroot}"),
        // gcc looks beside itself first, and only then in the sysroot.
        format!("-Clink-arg=-B{libraries}"),
        // The compiler's own libgcc_s asks this host's C library for more. The one on the target will not.
        "-Clink-arg=-Wl,--allow-shlib-undefined".to_owned(),
    ];
    let places = [
        (setup::repository().to_owned(), "/holdpoint"),
        (cargo_home()?, "/cargo"),
    ];
    let remap = |option: &str| {
        let options = places
            .iter()
            .map(|(place, name)| format!("{option}={}={name}", place.display()));
        options.collect::<Vec<_>>().join(" ")
    };
    let c = format!("--sysroot={sysroot} {}", remap("-ffile-prefix-map"));
    let build = place.join("build");
    let name = triple.replace('-', "_");
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", name.to_uppercase());
    // With --target, the flags are for what goes into the program, not for build scripts and macros.
    done(
        cargo("rustc --quiet --locked --release -p holdpoint --bin holdpoint")
            .args(["--target", &triple, "--target-dir"])
            .arg(&build)
            .arg("--")
            .args(link)
            .env_remove("RUSTFLAGS")
            .env(flags, remap("--remap-path-prefix"))
            .env(format!("CFLAGS_{name}"), c),
    )?;
    let binary = build.join(triple).join("release/holdpoint");
    let needed = glibc_needed(&binary)?;
    ensure!(
        needed <= OLDEST_GLIBC,
        "{} needs glibc {needed}, and Debian {OLDEST_DEBIAN} has {OLDEST_GLIBC}",
        binary.display()
    );
    Ok(binary)
}

/// Debian's name of the architecture in paths.
fn multiarch() -> anyhow::Result<String> {
    let name = stdout_of(Command::new("dpkg-architecture").arg("-qDEB_HOST_MULTIARCH"))?;
    Ok(name.trim().to_owned())
}

fn triple() -> anyhow::Result<String> {
    let about = stdout_of(Command::new("rustc").arg("-vV"))?;
    let triple = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("rustc -vV names no host")?.to_owned())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("no home directory")?.join(".cargo"),
    };
    Ok(home.canonicalize()?)
}

/// The C library's headers and what a program is linked with, unpacked once.
fn sysroot(place: &Path) -> anyhow::Result<PathBuf> {
    if place.exists() {
        return Ok(place.to_owned());
    }
    host::require_program("mmdebstrap", "mmdebstrap")?;
    let next = place.with_extension("new");
    if next.exists() {
        fs::remove_dir_all(&next)?;
    }
    done(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract"])
            .args(["--include=libc6-dev,linux-libc-dev", OLDEST_DEBIAN])
            .arg(&next),
    )
    .with_context(|| format!("cannot fetch the C library of Debian {OLDEST_DEBIAN}"))?;
    stay_inside(&next.join("lib64"), place)?;
    stay_inside(&next.join("usr/lib"), place)?;
    fs::rename(&next, place)?;
    Ok(place.to_owned())
}

/// Absolute links would lead out of it, to this host's own libraries.
fn stay_inside(dir: &Path, sysroot: &Path) -> anyhow::Result<()> {
    for path in file_names(dir)? {
        if path.is_symlink() {
            let target = fs::read_link(&path)?;
            let Ok(below) = target.strip_prefix("/") else {
                continue;
            };
            fs::remove_file(&path)?;
            symlink(sysroot.join(below), &path)?;
        } else if path.is_dir() {
            stay_inside(&path, sysroot)?;
        }
    }
    Ok(())
}

/// A version of the GNU C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(u32, u32);

impl Glibc {
    /// At the start of the rest of a symbol's version.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split([')', ' ']).next()?.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The version of glibc that has all symbols the program asks for.
///
/// # Errors
/// When it cannot be told.
pub fn glibc_needed(binary: &Path) -> anyhow::Result<Glibc> {
    let symbols = stdout_of(Command::new("objdump").arg("-T").arg(binary))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(Glibc::parse);
    versions
        .max()
        .context("it asks for no versioned symbol of glibc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(Glibc::parse("2.34) pthread_create"), Some(Glibc(2, 34)));
        assert_eq!(Glibc::parse("2.2.5) read"), Some(Glibc(2, 2)));
        assert!(Glibc::parse("2.9) x") < Glibc::parse("2.31) y"));
        assert_eq!(Glibc::parse("PRIVATE) z"), None);
    }
}
