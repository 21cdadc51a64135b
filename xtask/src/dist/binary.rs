//! The program of the package.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{done, stdout_of};
use crate::{
    host,
    setup::{self, cargo},
};

/// The oldest Debian with a kernel that Holdpoint runs on: what is linked with its C library runs on all later ones.
/// (Not a static one: people and groups are looked up by the host's own NSS modules.)
const OLDEST_DEBIAN: &str = "bullseye";

/// The debug build.
///
/// # Errors
/// When it does not build.
pub fn debug() -> anyhow::Result<PathBuf> {
    done(&mut cargo(
        "build --quiet --locked -p holdpoint --bin holdpoint",
    ))?;
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
    let (sysroot, here) = (sysroot.display(), setup::repository().display());
    let cargo_home = cargo_home()?;
    let cargo_home = cargo_home.display();
    let rust = [
        format!("-Clink-arg=--sysroot={sysroot}"),
        format!("--remap-path-prefix={here}=/holdpoint"),
        format!("--remap-path-prefix={cargo_home}=/cargo"),
    ];
    let c = [
        format!("--sysroot={sysroot}"),
        format!("-ffile-prefix-map={here}=/holdpoint"),
        format!("-ffile-prefix-map={cargo_home}=/cargo"),
    ];
    let build = place.join("build");
    let name = triple.replace('-', "_");
    // With --target, these flags are the program's only, not those of build scripts and macros.
    done(
        cargo("build --quiet --locked --release -p holdpoint --bin holdpoint")
            .args(["--target", &triple, "--target-dir"])
            .arg(&build)
            .env_remove("RUSTFLAGS")
            .env(
                format!("CARGO_TARGET_{}_RUSTFLAGS", name.to_uppercase()),
                rust.join(" "),
            )
            .env(format!("CFLAGS_{name}"), c.join(" ")),
    )?;
    Ok(build.join(triple).join("release/holdpoint"))
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
    fs::rename(&next, place)?;
    Ok(place.to_owned())
}

/// The version of glibc that has all symbols the program asks for.
///
/// # Errors
/// When it cannot be told.
pub fn glibc_needed(binary: &Path) -> anyhow::Result<String> {
    let symbols = stdout_of(Command::new("objdump").arg("-T").arg(binary))?;
    let newest = symbols
        .split("GLIBC_")
        .skip(1)
        .filter_map(version)
        .max()
        .context("it asks for no versioned symbol of glibc")?;
    ensure!(newest >= (2, 0), "glibc {newest:?}?");
    Ok(format!("{}.{}", newest.0, newest.1))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.split([')', ' ']).next()?;
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("2.34) pthread_create"), Some((2, 34)));
        assert_eq!(version("2.2.5) read"), Some((2, 2)));
        assert!(version("2.9) x") < version("2.31) y"));
        assert_eq!(version("PRIVATE) z"), None);
    }
}
