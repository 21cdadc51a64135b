//! Which files a session's command is, and what is in them: on record before it runs.
//!
//! The shim looks where the command will be looked for, in the session's mounts and with the caller's permissions, and hashes what it has
//! opened. What is executed then has those bytes and no others: right before, it is compared by device, inode and time of change, and
//! hashed anew where these differ (a new link or other permissions change the time, and no byte).

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use holdpoint_core::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{command::candidates, keep, message::Octets, sandbox::Identity};

/// The beginning of a script, of which the kernel looks at so much (`BINPRM_BUF_SIZE`).
const BEGINNING: usize = 256;
/// Files that lead to one another: the kernel follows five (`exec_binprm` in fs/exec.c), and `env` names one more.
const MOST: usize = 6;
/// Bytes that are hashed at most: whoever waits for the session waits for this.
const LARGEST: u64 = 256 << 20;
const ELF: &[u8] = b"\x7fELF";

/// How a command is named.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its first argument.
    pub name: Octets,
    /// PATH, where there is one.
    pub path: Option<Octets>,
    /// Where it starts; absolute.
    pub directory: Octets,
}

/// A file that is executed, or that executes the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its absolute path, links not followed.
    pub path: Octets,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    state: State,
}

/// What tells a file, as it was hashed, from another one and from itself after a change (`struct stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for State {
    fn from(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Program {
    /// Whether it still has the bytes that were hashed.
    pub fn is_unchanged(&self) -> bool {
        let path = self.path.to_path();
        let has_state = |found: Metadata| State::from(&found) == self.state;
        let has_digest = |(found, _): (Self, _)| found.sha256 == self.sha256;
        std::fs::metadata(&path).is_ok_and(has_state)
            || open(&path)
                .and_then(|file| hashed(self.path.clone(), file))
                .is_ok_and(has_digest)
    }
}

impl Named {
    /// The command's file first, then what it is read by. Nothing where its file cannot be read by the caller, or is too large.
    ///
    /// # Errors
    /// When permissions cannot be switched to the caller's.
    pub fn look(&self, caller: &Identity) -> anyhow::Result<Vec<Program>> {
        let looked = keep::as_caller(caller, || self.follow(caller))?;
        Ok(looked.unwrap_or_else(|error| {
            // The daemon's log. Whether it can be executed is another question, and answered later.
            eprintln!("holdpoint shim: the command's file is not known: {error}");
            Vec::new()
        }))
    }

    fn follow(&self, caller: &Identity) -> io::Result<Vec<Program>> {
        let mut programs = Vec::new();
        let mut next = self.find(&self.name.0, caller);
        while let Some((path, file)) = next {
            if programs.len() == MOST {
                return Err(io::Error::other("too many scripts run one another"));
            }
            let (program, beginning) = hashed(path, file)?;
            programs.push(program);
            next = self.reader_of(&beginning, caller);
        }
        Ok(programs)
    }

    /// What executes a file that begins so, if it does not itself.
    fn reader_of(&self, beginning: &[u8], caller: &Identity) -> Option<(Octets, File)> {
        let Some(line) = beginning.strip_prefix(b"#!") else {
            return match beginning.starts_with(ELF) {
                true => None,
                // As execvp(3) has it.
                false => self.find(b"/bin/sh", caller),
            };
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let mut words = words.by_ref().filter(|word| !word.is_empty());
        let interpreter = words.next()?;
        let found = self.find(interpreter, caller);
        let is_env = interpreter.ends_with(b"/env");
        match words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')) {
            Some(name) if is_env => self.find(name, caller).or(found),
            _ => found,
        }
    }

    /// The first file of this name that the caller may execute.
    fn find(&self, name: &[u8], caller: &Identity) -> Option<(Octets, File)> {
        let path = self.path.as_ref().map(|path| path.0.as_slice());
        let directory = self.directory.to_path();
        candidates(name, path).ok()?.into_iter().find_map(|file| {
            let file = directory.join(Path::new(std::ffi::OsStr::from_bytes(file.as_bytes())));
            let opened = open(&file).ok()?;
            let found = opened.metadata().ok()?;
            (found.is_file() && may_execute(&found, caller))
                .then(|| (Octets::from(file.as_path()), opened))
        })
    }
}

/// Neither a pipe nor a device makes anybody wait.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn may_execute(found: &Metadata, caller: &Identity) -> bool {
    let is_in = |gid| caller.gid == gid || caller.groups.contains(&gid);
    let bit = match () {
        () if found.uid() == caller.uid => 0o100,
        () if is_in(found.gid()) => 0o010,
        () => 0o001,
    };
    found.mode() & bit != 0
}

fn hashed(path: Octets, mut file: File) -> io::Result<(Program, Vec<u8>)> {
    // As it was before: one that is written to meanwhile is not what was hashed.
    let state = State::from(&file.metadata()?);
    if state.size > LARGEST {
        return Err(io::Error::other("it is too large to be hashed"));
    }
    let (mut hash, mut beginning) = (Sha256::new(), Vec::new());
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        let missing = BEGINNING.saturating_sub(beginning.len());
        beginning.extend_from_slice(&piece[..read.min(missing)]);
        hash.update(&piece[..read]);
    }
    let sha256 = Digest::from_bytes(hash.finalize().into());
    Ok((
        Program {
            path,
            sha256,
            state,
        },
        beginning,
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn caller() -> Identity {
        Identity {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            groups: Vec::new(),
        }
    }

    fn put(dir: &Path, name: &str, text: &str, mode: u32) {
        let file = dir.join(name);
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
    }

    fn chain(dir: &Path, name: &str) -> Vec<String> {
        let named = Named {
            name: Octets(name.into()),
            path: Some(Octets::from(dir)),
            directory: Octets::from(dir),
        };
        let programs = named.follow(&caller()).expect("readable");
        let names = programs.iter().map(|it| {
            assert!(it.is_unchanged());
            let name = it.path.to_path();
            let bytes = fs::read(&name).expect("there");
            assert_eq!(it.sha256, Digest::of_bytes(&bytes));
            name.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        });
        names.collect()
    }

    #[test]
    fn a_script_is_followed_to_what_runs_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        put(dir, "program", "\x7fELF...", 0o755);
        put(dir, "plain", "echo hello\n", 0o755);
        put(dir, "unfit", "\x7fELF...", 0o644);
        let own = format!("#! {}/program -x\n", dir.display());
        put(dir, "script", &own, 0o755);
        put(dir, "by-env", "#!/usr/bin/env -S A=b program -x\n", 0o755);
        put(dir, "loop", &format!("#!{}/loop\n", dir.display()), 0o755);
        assert_eq!(chain(dir, "program"), ["program"]);
        assert_eq!(chain(dir, "./program"), ["program"]);
        assert_eq!(chain(dir, "script"), ["script", "program"]);
        assert_eq!(chain(dir, "by-env"), ["by-env", "program"]);
        assert_eq!(chain(dir, "plain"), ["plain", "sh"]);
        assert_eq!(chain(dir, "unfit"), [""; 0]);
        assert_eq!(chain(dir, "missing"), [""; 0]);
        let named = Named {
            name: Octets(b"loop".to_vec()),
            path: Some(Octets::from(dir)),
            directory: Octets::from(dir),
        };
        assert!(named.follow(&caller()).is_err());
    }

    #[test]
    fn what_was_changed_or_replaced_is_not_what_was_hashed() {
        let dir = tempfile::tempdir().expect("a directory");
        put(dir.path(), "x", "\x7fELF one", 0o755);
        let file = dir.path().join("x");
        let opened = open(&file).expect("there");
        let (program, _) = hashed(Octets::from(file.as_path()), opened).expect("read");
        assert!(program.is_unchanged());
        let link = dir.path().join("link");
        fs::hard_link(&file, &link).expect("linked");
        fs::remove_file(&link).expect("there");
        assert!(program.is_unchanged());
        put(dir.path(), "x", "\x7fELF 0ne", 0o755);
        assert!(!program.is_unchanged());
        put(dir.path(), "x", "\x7fELF one", 0o755);
        assert!(program.is_unchanged());
        put(dir.path(), "y", "\x7fELF two", 0o755);
        fs::rename(dir.path().join("y"), &file).expect("replaced");
        assert!(!program.is_unchanged());
    }
}
