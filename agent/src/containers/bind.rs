//! Directories and files of a session that a container of its shows.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ask::Refusal;

/// How many one container may have.
const MOST: usize = 32;
/// Bytes of a path (`PATH_MAX`).
const MOST_PATH: usize = 4096;

/// Where Holdpoint's own files lie in a container.
pub const OWN_PLACE: &str = "/run/holdpoint";

/// What a session sees there is the kernel's, or a service's.
const NO_SOURCES: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/var/run"];

/// What lies there in a container is the runtime's or Holdpoint's to say.
const NO_DESTINATIONS: [&str; 9] = [
    "/proc",
    "/sys",
    "/dev",
    OWN_PLACE,
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs",
    "/etc/pki",
    "/etc/ssl/cert.pem",
];

/// One of them. Which file it is is looked up when the container starts: in the session's own view, as the session's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// In the session.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// Whether it cannot be written to there.
    pub read_only: bool,
}

impl Bind {
    /// As `-v` has it: `SOURCE:DESTINATION[:OPTIONS]`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parts = text.split(':');
        let (Some(source), Some(destination), options, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!(
                "a mount is SOURCE:DESTINATION or SOURCE:DESTINATION:ro, and {text:?} is not"
            ));
        };
        if !source.starts_with('/') {
            return Err(format!(
                "there are no volumes for sessions, and {source:?} names one: mount a directory of the session's, by its absolute path"
            ));
        }
        let mut read_only = false;
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            match option {
                "ro" => read_only = true,
                // Of SELinux and of propagation: as it is anyway.
                "rw" | "z" | "rprivate" | "" => {}
                _ => {
                    return Err(format!(
                        "a mount has no option {option:?} here: leave it out, or say ro"
                    ));
                }
            }
        }
        Self::new(source, destination, read_only)
    }

    /// Checks what can be checked without looking.
    ///
    /// # Errors
    /// When one of the two cannot be.
    pub fn new(source: &str, destination: &str, read_only: bool) -> Result<Self, Refusal> {
        let plain_source = plain(source)?;
        if plain_source == "/"
            || NO_SOURCES
                .iter()
                .any(|no| Path::new(&plain_source).starts_with(no))
        {
            return Err(format!(
                "{source} is not shown to containers: the root, /run (with all sockets of services), /proc, /sys and /dev stay out. \
                 Mount the directory that is needed"
            ));
        }
        let destination = plain(destination)?;
        let own = NO_DESTINATIONS.map(Path::new);
        if own.iter().any(|own| overlap(own, Path::new(&destination))) {
            return Err(format!(
                "{destination} in a container is Holdpoint's or the runtime's: mount it elsewhere"
            ));
        }
        Ok(Self {
            source: plain_source,
            destination,
            read_only,
        })
    }
}

/// All of one container's.
///
/// # Errors
/// When they are too many, or one lies in another: whoever can write to the outer one decides where the inner one goes.
pub fn checked(binds: Vec<Bind>) -> Result<Vec<Bind>, Refusal> {
    if binds.len() > MOST {
        return Err(format!("a container has {MOST} mounts at most"));
    }
    for (index, one) in binds.iter().enumerate() {
        let later = &binds[index + 1..];
        if let Some(other) = later
            .iter()
            .find(|other| overlap(Path::new(&one.destination), Path::new(&other.destination)))
        {
            return Err(format!(
                "{} and {} in the container lie in one another: mount them side by side",
                one.destination, other.destination
            ));
        }
    }
    Ok(binds)
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Absolute, spelled in the one way that means no other place.
fn plain(path: &str) -> Result<String, Refusal> {
    let parts = Path::new(path).components();
    let fits = parts
        .clone()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.starts_with('/') || !fits || path.len() > MOST_PATH || path.contains('\0') {
        return Err(format!(
            "{path:?} is no absolute path without ..: mounts have those"
        ));
    }
    let spelled: PathBuf = parts.collect();
    Ok(spelled.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_directory_of_the_session_is_taken() {
        let bind = Bind::parse("/home/agent/work:/work").expect("a mount");
        assert_eq!(
            (
                bind.source.as_str(),
                bind.destination.as_str(),
                bind.read_only
            ),
            ("/home/agent/work", "/work", false)
        );
        assert!(Bind::parse("/tmp/a/:/a//b/:ro").expect("a mount").read_only);
        assert_eq!(
            Bind::parse("/tmp/./a/:/a//b/:ro")
                .expect("a mount")
                .destination,
            "/a/b"
        );
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in [
            "/:/host",
            "//:/host",
            "/.:/host",
            "/run/docker.sock:/s",
            "/var/run/docker.sock:/var/run/docker.sock",
            "/proc:/p",
            "/sys/fs:/p",
            "/dev:/d",
            "/home/../run:/r",
            "volume:/v",
            "/v",
            "/a:/",
            "/a:/etc",
            "/a:/etc/hosts",
            "/a:/proc/x",
            "/a:/run",
            "/a:/run/holdpoint/x",
            "/a:b",
            "/a:/b:rshared",
            "/a:/b:ro:x",
            "",
        ] {
            assert!(Bind::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_do_not_nest() {
        let binds = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Bind::parse(text))
                .collect::<Result<Vec<_>, _>>()
        };
        assert!(checked(binds(&["/a:/x", "/b:/y"]).expect("mounts")).is_ok());
        assert!(checked(binds(&["/a:/x", "/b:/x/y"]).expect("mounts")).is_err());
        assert!(checked(binds(&["/a:/x/y", "/b:/x"]).expect("mounts")).is_err());
        assert!(checked(binds(&["/a:/x", "/b:/x"]).expect("mounts")).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_plain(text in "(/[a-z.]{0,3}){0,4}:(/[a-z.]{0,3}){0,4}(:[a-z,]{0,4})?|.{0,40}") {
            if let Ok(bind) = Bind::parse(&text) {
                for path in [bind.source, bind.destination] {
                    let absolute = path.starts_with('/') && path.len() > 1;
                    let dots = path.split('/').any(|part| part == ".." || part == ".");
                    prop_assert!(absolute && !dots);
                }
            }
        }
    }
}
