//! The certificates a session trusts, over the host's own.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{keep, message::Octets, mounts, sandbox::Rules};

/// Where distributions keep the CA certificates everything trusts that no variable tells otherwise.
pub const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Where distributions keep them for Java.
pub const SYSTEM_TRUSTSTORES: [&str; 3] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
];

/// Directories of JDKs, which come with a truststore of their own unless a distribution links it.
const JAVA_PLACES: [&str; 4] = ["/usr/lib/jvm", "/usr/java", "/opt", "/opt/java"];

/// Where a JDK keeps it; the second is for Java 8, and the others win where they exist (JSSE Reference Guide).
const IN_JAVA_HOME: [&str; 4] = [
    "lib/security/cacerts",
    "jre/lib/security/cacerts",
    "lib/security/jssecacerts",
    "jre/lib/security/jssecacerts",
];

/// The most bytes of a bundle or truststore. Debian's have 220 KB.
const LIMIT: u64 = 16 << 20;

/// The name of the CA bundle below the runtime directory, inside a session.
pub const BUNDLE_NAME: &str = "ca-bundle.pem";
/// The name of the truststore beside it.
pub const TRUSTSTORE_NAME: &str = "truststore.jks";

/// What a session trusts, and the host's files it takes the place of.
pub struct Trust {
    files: Vec<(&'static str, Vec<u8>, BTreeSet<PathBuf>)>,
}

impl Trust {
    /// Reads it, and looks for the host's before anything is covered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(bundle: &Path, rules: &Rules) -> anyhow::Result<Self> {
        let mut bundles = existing(&SYSTEM_BUNDLES);
        bundles.extend(pinned(rules)?);
        let mut files = vec![(BUNDLE_NAME, read(bundle)?, bundles)];
        if let Some(truststore) = &rules.truststore {
            let content = read(&truststore.to_path())?;
            files.push((TRUSTSTORE_NAME, content, truststores(rules)?));
        }
        Ok(Self { files })
    }

    /// Writes it into `directory` and mounts it over the host's.
    ///
    /// # Errors
    /// When that fails.
    pub fn install(&self, directory: &Path) -> anyhow::Result<()> {
        for (name, content, targets) in &self.files {
            let own = directory.join(name);
            write(&own, content)?;
            for target in targets {
                // It may lie where the session sees something else by now.
                if target.exists() {
                    mounts::bind(&own, target)?;
                }
            }
        }
        Ok(())
    }
}

/// A file of root's that everybody may read.
pub fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o444)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut content))
        .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        content.len() as u64 <= LIMIT,
        "{} has more than {LIMIT} bytes",
        path.display()
    );
    Ok(content)
}

/// Every JDK's that is where JDKs usually are, and the caller's own.
fn truststores(rules: &Rules) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = existing(&SYSTEM_TRUSTSTORES);
    for place in JAVA_PLACES {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            found.extend(in_java_home(&entry.path()));
        }
    }
    if let Some(home) = &rules.java_home {
        let home = home.to_path();
        found.extend(keep::as_caller(&rules.caller, || in_java_home(&home))?);
    }
    Ok(found)
}

/// What clients of databases are told to trust, as far as the caller can reach it.
fn pinned(rules: &Rules) -> anyhow::Result<BTreeSet<PathBuf>> {
    let files: Vec<_> = rules.root_files.iter().map(Octets::to_path).collect();
    let mut found = keep::as_caller(&rules.caller, || existing(&files))?;
    found.retain(|file| file.is_file());
    Ok(found)
}

fn in_java_home(home: &Path) -> BTreeSet<PathBuf> {
    existing(&IN_JAVA_HOME.map(|file| home.join(file)))
}

/// Those that exist, by their real path, each once.
fn existing(paths: &[impl AsRef<Path>]) -> BTreeSet<PathBuf> {
    paths
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect()
}
