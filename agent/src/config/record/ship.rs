//! `[record.ship]`: where the record goes besides this host.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::config::check_url;

/// Where Cloud Storage answers, unless the configuration says otherwise.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// Where the record is shipped to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Ship {
    /// Where to.
    pub to: Destination,
    /// Whether stored bodies are shipped as well, masked as they are stored.
    pub bodies: bool,
    /// Between two looks for what is new.
    pub every: Duration,
    /// For so long the daemon stays for the rest when it is told to stop.
    pub stop_within: Duration,
}

/// A place off this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A directory that is there, on another mount for example.
    Directory(PathBuf),
    /// A bucket of Cloud Storage.
    Bucket {
        /// Its name.
        name: String,
        /// What all names in it begin with, without slashes around; may be empty.
        prefix: String,
        /// The URL of the service.
        endpoint: String,
    },
}

impl Destination {
    /// As it is written in the configuration.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Directory(directory) => directory.display().to_string(),
            Self::Bucket { name, prefix, .. } if prefix.is_empty() => format!("gs://{name}"),
            Self::Bucket { name, prefix, .. } => format!("gs://{name}/{prefix}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    directory: Option<PathBuf>,
    bucket: Option<String>,
    endpoint: Option<String>,
    #[serde(default)]
    bodies: bool,
    every_seconds: Option<u64>,
    stop_seconds: Option<u64>,
}

impl TryFrom<Raw> for Ship {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let to = match (raw.directory, raw.bucket, raw.endpoint) {
            (Some(directory), None, None) if directory.is_absolute() => {
                Destination::Directory(directory)
            }
            (Some(_), None, None) => {
                return Err("record.ship.directory has to be an absolute path".to_owned());
            }
            (None, Some(bucket), endpoint) => self::bucket(&bucket, endpoint)?,
            _ => {
                return Err(
                    "record.ship needs a directory, or a bucket (which may have an endpoint)"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            to,
            bodies: raw.bodies,
            every: Duration::from_secs(raw.every_seconds.unwrap_or(30).clamp(1, 3600)),
            stop_within: Duration::from_secs(raw.stop_seconds.unwrap_or(60).min(3600)),
        })
    }
}

fn bucket(url: &str, endpoint: Option<String>) -> Result<Destination, String> {
    let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
    check_url(&endpoint).map_err(|why| format!("record.ship.endpoint: {why}"))?;
    let rest = url.strip_prefix("gs://").unwrap_or_default();
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |text: &str, more: &str| {
        text.bytes()
            .all(|it| it.is_ascii_alphanumeric() || more.as_bytes().contains(&it))
    };
    let prefix = prefix.trim_matches('/');
    if name.is_empty()
        || !is_plain(name, "-_.")
        || !is_plain(prefix, "-_./")
        || prefix.contains("//")
    {
        return Err(format!(
            "record.ship.bucket: \"{url}\" is not of the form gs://NAME or gs://NAME/prefix"
        ));
    }
    Ok(Destination::Bucket {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: endpoint.trim_end_matches('/').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ship, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_directory_or_a_bucket() {
        let ship = read("directory = \"/mnt/evidence\"").expect("valid");
        assert_eq!(ship.to.name(), "/mnt/evidence");
        assert!(
            !ship.bodies,
            "masked bodies may be somebody's personal data"
        );
        let ship = read("bucket = \"gs://evidence/ci/eu/\"\nbodies = true").expect("valid");
        assert_eq!(ship.to.name(), "gs://evidence/ci/eu");
        let ship = read("bucket = \"gs://evidence\"").expect("valid");
        assert_eq!(ship.to.name(), "gs://evidence");
        for (text, because) in [
            ("", "needs a directory"),
            ("directory = \"x\"", "absolute"),
            (
                "directory = \"/x\"\nbucket = \"gs://y\"",
                "needs a directory",
            ),
            ("bucket = \"y\"", "of the form"),
            ("bucket = \"gs://\"", "of the form"),
            ("bucket = \"gs://y/a//b\"", "of the form"),
            ("bucket = \"gs://y?z\"", "of the form"),
            ("bucket = \"gs://y\"\nendpoint = \"http://h\"", "https"),
            ("directory = \"/x\"\nregion = \"y\"", "unknown field"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(because), "{text}: {error}");
        }
    }
}
