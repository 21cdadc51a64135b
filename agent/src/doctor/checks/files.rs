//! The daemon's files: whose they are, and who may read them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use super::Finding;
use crate::{config::Config, tls::Authority};

pub fn check(config: &Config, runs: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let state = &config.state_dir;
    if !state.exists() {
        findings.push(Finding::warn(
            "state",
            format!("{} is not there yet", state.display()),
            "start the daemon once: it makes the directory, the CA and the record",
        ));
        return findings;
    }
    findings.extend(strict("state", state, 0o077));
    findings.extend(authority(config, runs));
    if runs {
        findings.extend(owned_by_root("runtime", &config.runtime_dir, 0o022));
    }
    findings
}

fn authority(config: &Config, runs: bool) -> Vec<Finding> {
    const SUBJECT: &str = "CA";
    let key = config.state_dir.join("ca.key");
    if !key.exists() {
        let advice = "start the daemon once: it makes one";
        return vec![Finding::warn(SUBJECT, "there is none yet", advice)];
    }
    let mut findings: Vec<_> = strict(SUBJECT, &key, 0o077).into_iter().collect();
    let advice = format!(
        "restore both files from a backup, or remove both ({} and ca.pem) and restart the daemon: it makes a new CA",
        key.display()
    );
    match Authority::open(&config.state_dir) {
        Ok(authority) => {
            findings.push(Finding::ok(SUBJECT, "key and certificate fit each other"));
            if runs {
                findings.push(bundle(&config.ca_bundle(), &authority));
            }
        }
        Err(error) => findings.push(Finding::fail(SUBJECT, format!("{error:#}"), advice)),
    }
    findings
}

/// What sandboxes trust.
fn bundle(path: &Path, authority: &Authority) -> Finding {
    const SUBJECT: &str = "CA bundle";
    let advice = "restart the daemon: it writes it anew";
    let pem = match fs::read_to_string(path) {
        Ok(pem) => pem,
        Err(error) => {
            let says = format!("{} cannot be read: {error}", path.display());
            return Finding::fail(SUBJECT, says, advice);
        }
    };
    let says = if !pem.contains(authority.pem().trim()) {
        format!(
            "{} does not hold this host's CA: no client would trust the proxy",
            path.display()
        )
    } else if fs::metadata(path).is_ok_and(|it| it.uid() != 0 || it.mode() & 0o022 != 0) {
        format!(
            "{} can be written by others than root: they could add a CA",
            path.display()
        )
    } else {
        let count = pem.matches("BEGIN CERTIFICATE").count();
        return Finding::ok(
            SUBJECT,
            format!("{count} certificates, this host's among them"),
        );
    };
    Finding::fail(SUBJECT, says, advice)
}

/// A finding for what none but root may see.
fn strict(subject: &'static str, path: &Path, forbidden: u32) -> Option<Finding> {
    // Made later.
    if !path.exists() {
        return None;
    }
    Some(owned_by_root(subject, path, forbidden).unwrap_or_else(|| {
        let mode = fs::metadata(path).map_or(0, |it| it.permissions().mode() & 0o7777);
        Finding::ok(
            subject,
            format!("{} is root's (mode {mode:04o})", path.display()),
        )
    }))
}

/// A finding where a file is not root's, or its mode has one of the `forbidden` bits.
pub fn owned_by_root(subject: &'static str, path: &Path, forbidden: u32) -> Option<Finding> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let says = format!("{} cannot be looked at: {error}", path.display());
            return Some(Finding::fail(subject, says, "see that it is there"));
        }
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner == 0 && mode & forbidden == 0 {
        return None;
    }
    let path = path.display();
    let good = mode & !forbidden;
    Some(Finding::fail(
        subject,
        format!("{path} is of user {owner} with mode {mode:04o}: others than root may get at it"),
        format!("chown root:root {path} && chmod {good:04o} {path}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    #[test]
    fn modes_that_are_too_wide_are_found() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let set = |mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("our own");
        };
        set(0o600);
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(owned_by_root("x", file.path(), 0o077).is_none(), is_root);
        set(0o640);
        let found = owned_by_root("x", file.path(), 0o077).expect("is found");
        assert_eq!(found.grade, Grade::Fail);
        assert!(
            found
                .advice
                .expect("says what to do")
                .contains("chmod 0600")
        );
        assert_eq!(owned_by_root("x", file.path(), 0o022).is_none(), is_root);
    }
}
