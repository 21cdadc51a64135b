//! The daemon's files: whose they are, and who may read them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::{config::Config, tls::Authority};

/// MiB.
const LEAST_FREE: u64 = 64;
/// MiB.
const ENOUGH_FREE: u64 = 1024;
/// In which an expiry is announced.
const LAST_DAYS: i64 = 30;

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
    findings.push(space(state));
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
            findings.push(valid(authority.validity(), Timestamp::now()));
            if runs {
                findings.push(bundle(&config.ca_bundle(), &authority));
            }
        }
        Err(error) => findings.push(Finding::fail(SUBJECT, format!("{error:#}"), advice)),
    }
    findings
}

/// For how much longer.
fn valid(validity: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Finding {
    const SUBJECT: &str = "CA";
    let advice = "remove ca.key and ca.pem from state_dir and restart the daemon: it makes a new CA, which new sessions trust";
    let Some((from, until)) = validity else {
        return Finding::fail(SUBJECT, "its certificate cannot be read", advice);
    };
    let days = until.duration_since(now).as_hours() / 24;
    match days {
        _ if now < from => Finding::fail(
            SUBJECT,
            format!("it is not valid before {from:.0}: is the clock right?"),
            advice,
        ),
        ..0 => Finding::fail(
            SUBJECT,
            format!(
                "it has expired, {} days ago: no client trusts the proxy",
                -days
            ),
            advice,
        ),
        0..LAST_DAYS => Finding::warn(SUBJECT, format!("it expires in {days} days"), advice),
        _ => Finding::ok(
            SUBJECT,
            format!("key and certificate fit each other, and are good for {days} days"),
        ),
    }
}

/// Room for the record.
fn space(state: &Path) -> Finding {
    const SUBJECT: &str = "disk";
    let advice =
        "free some, or put `state_dir` on a larger file system: what cannot be recorded is denied";
    let free = match statvfs(state) {
        Ok(found) => {
            found
                .blocks_available()
                .saturating_mul(found.fragment_size())
                >> 20
        }
        Err(error) => {
            return Finding::fail(SUBJECT, format!("{}: {error}", state.display()), advice);
        }
    };
    let says = format!("{free} MiB are free for the record in {}", state.display());
    match free {
        ..LEAST_FREE => Finding::fail(SUBJECT, says, advice),
        LEAST_FREE..ENOUGH_FREE => Finding::warn(SUBJECT, says, advice),
        _ => Finding::ok(SUBJECT, says),
    }
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
    fn a_ca_that_is_about_to_expire_is_found() {
        let day = |day: i64| Timestamp::from_second(day * 86400).expect("a time");
        let grade = |now| valid(Some((day(100), day(200))), day(now)).grade;
        assert_eq!(grade(99), Grade::Fail);
        assert_eq!(grade(100), Grade::Ok);
        assert_eq!(grade(180), Grade::Warn);
        assert_eq!(grade(202), Grade::Fail);
        assert_eq!(valid(None, day(1)).grade, Grade::Fail);
    }

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
