//! Who is told of what is held, and where it may be answered from elsewhere.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use http::Uri;
use serde::Deserialize;

use super::{Config, Issuer};
use crate::{notifications::Topic, upstream::is_loopback};

/// One place to tell, and what it is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Notification {
    /// Where the news go.
    pub to: Destination,
    /// The reviewer groups it is for. Empty: all.
    pub groups: BTreeSet<String>,
    /// What it is told of.
    pub events: BTreeSet<Topic>,
}

/// Where news go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A signed JSON message by HTTPS.
    Webhook {
        /// To whom.
        url: Place,
        /// The file with the secrets it is signed with, one a line, `whsec_` and base64.
        secret_file: PathBuf,
        /// CA certificates to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A message for a chat, by an incoming webhook as Slack has them.
    Slack {
        /// To whom.
        url: Place,
        /// CA certificates to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A program of this host's, without a shell in between.
    Command {
        /// The program, by its absolute path, and its arguments.
        command: Vec<String>,
        /// The Unix user it runs as, not root.
        user: String,
        /// When it is killed.
        limit: Duration,
        /// So many run at once.
        at_once: usize,
    },
    /// A note on the terminals of reviewers who are logged in.
    Terminals,
}

/// A URL, or the file with one that is a secret by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration.
    Url(String),
    /// In a file. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    File(PathBuf),
}

impl Place {
    /// # Errors
    /// When there are none or both, or the URL is none.
    pub(super) fn either(url: Option<String>, file: Option<PathBuf>) -> Result<Self, String> {
        match (url, file) {
            (Some(url), None) => check_url(&url).map(|()| Self::Url(url)),
            (None, Some(file)) => Ok(Self::File(file)),
            _ => Err("it needs a url or a url_file, one of them".to_owned()),
        }
    }
}

/// Where reviewers may answer without being on this host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    pub key: PathBuf,
    /// How reviewers reach it, `https://HOST[:PORT]`; `${HOSTNAME}` in it stands for this host's name.
    pub public_url: String,
}

/// `[[notification]]` as it is written. (serde cannot refuse unknown keys of tables that are put together of several types.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    #[serde(default)]
    groups: BTreeSet<String>,
    events: Option<BTreeSet<Topic>>,
    url: Option<String>,
    url_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    command: Option<Vec<String>>,
    user: Option<String>,
    seconds: Option<u64>,
    at_once: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Webhook,
    Slack,
    Command,
    Terminals,
}

impl TryFrom<Table> for Notification {
    type Error = String;

    fn try_from(mut table: Table) -> Result<Self, String> {
        let to = match table.kind {
            Kind::Webhook => Destination::Webhook {
                url: table.place()?,
                secret_file: needed(table.secret_file.take(), "secret_file")?,
                ca_file: table.ca_file.take(),
            },
            Kind::Slack => Destination::Slack {
                url: table.place()?,
                ca_file: table.ca_file.take(),
            },
            Kind::Command => Destination::Command {
                command: absolute(needed(table.command.take(), "command")?)?,
                user: needed(table.user.take(), "user")?,
                limit: Duration::from_secs(table.seconds.take().unwrap_or(10).clamp(1, 600)),
                at_once: table.at_once.take().unwrap_or(4).clamp(1, 64),
            },
            Kind::Terminals => Destination::Terminals,
        };
        table.nothing_left()?;
        Ok(Self {
            to,
            groups: table.groups,
            events: table.events.unwrap_or_else(|| [Topic::Held].into()),
        })
    }
}

impl Table {
    fn place(&mut self) -> Result<Place, String> {
        Place::either(self.url.take(), self.url_file.take())
    }

    fn nothing_left(&self) -> Result<(), String> {
        let left = [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("secret_file", self.secret_file.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("command", self.command.is_some()),
            ("user", self.user.is_some()),
            ("seconds", self.seconds.is_some()),
            ("at_once", self.at_once.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            Some((key, _)) => Err(format!("this kind of notification has no {key}")),
            None => Ok(()),
        }
    }
}

fn needed<T>(value: Option<T>, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("this kind of notification needs {key}"))
}

fn absolute(command: Vec<String>) -> Result<Vec<String>, String> {
    match command.first() {
        Some(program) if program.starts_with('/') => Ok(command),
        _ => Err("command has to begin with the absolute path of a program".to_owned()),
    }
}

/// News travel encrypted, or stay on this host. The text does not quote the URL, which may be a secret.
///
/// # Errors
/// When it is not such a URL.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| "its url is not a URL".to_owned())?;
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        _ if host.is_empty() => Err("its url has no host".to_owned()),
        Some("https") => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        _ => Err("its url has to be https (http only on loopback)".to_owned()),
    }
}

impl Answers {
    /// [`Self::public_url`] with this host's name in it, and nothing after its authority.
    ///
    /// # Errors
    /// When it is not of the form that it has to be.
    pub fn origin(&self) -> anyhow::Result<String> {
        let name = nix::unistd::gethostname()?;
        let url = self
            .public_url
            .replace("${HOSTNAME}", &name.to_string_lossy());
        let origin = url.strip_suffix('/').unwrap_or(&url);
        let uri: Uri = origin.parse()?;
        let authority = uri.authority().map_or("", |it| it.as_str());
        ensure!(
            origin == format!("https://{authority}") && !authority.contains('@'),
            "answers.public_url has to be https://HOST or https://HOST:PORT"
        );
        Ok(origin.to_owned())
    }
}

impl Config {
    pub(super) fn check_notifications(&self) -> anyhow::Result<()> {
        for group in self.notifications.iter().flat_map(|it| &it.groups) {
            ensure!(
                self.reviewers.contains_key(group),
                "a [[notification]] is for the group \"{group}\", and there is no [reviewers.{group}]"
            );
        }
        for issuer in &self.issuers {
            ensure!(
                issuer.client_id.is_none() && issuer.client_secret_file.is_none(),
                "[[issuer]] {} has a client: only reviewers sign in, of a [[reviewer_issuer]]",
                issuer.url
            );
        }
        for issuer in &self.reviewer_issuers {
            let opens_sessions = |other: &&Issuer| {
                other.url == issuer.url && Some(&other.audience) == issuer.client_id.as_ref()
            };
            ensure!(
                !self.issuers.iter().any(|it| opens_sessions(&it)),
                "[[reviewer_issuer]] {}: its client_id is the audience that opens sessions: an agent's token would make it a reviewer",
                issuer.url
            );
            ensure!(
                issuer.client_id.is_some() || issuer.client_secret_file.is_none(),
                "[[reviewer_issuer]] {} has a client_secret_file and no client_id",
                issuer.url
            );
        }
        let Some(answers) = &self.answers else {
            return Ok(());
        };
        ensure!(
            !self.reviewer_issuers.is_empty(),
            "[answers] needs a [[reviewer_issuer]]: nobody could say who they are"
        );
        answers.origin().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Notification, String> {
        toml::from_str(toml).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_has_keys_of_its_own() {
        let webhook = "kind = 'webhook'\nurl = 'https://a.example/x'\nsecret_file = '/s'\n";
        let read_webhook = read(webhook).expect("valid");
        assert_eq!(read_webhook.events, [Topic::Held].into());
        for (toml, part) in [
            ("kind = 'webhook'\nurl = 'https://a.example'", "secret_file"),
            ("kind = 'slack'", "a url or a url_file"),
            (
                "kind = 'slack'\nurl = 'https://a'\nurl_file = '/f'",
                "one of them",
            ),
            ("kind = 'slack'\nurl = 'http://a.example'", "https"),
            ("kind = 'slack'\nurl = 'http://169.254.169.254/x'", "https"),
            ("kind = 'terminals'\nurl = 'https://a'", "no url"),
            ("kind = 'terminals'\nwhatever = 1", "unknown field"),
            ("kind = 'terminals'\nevents = ['all']", "unknown variant"),
            (
                "kind = 'command'\ncommand = ['page']\nuser = 'nobody'",
                "absolute",
            ),
            ("kind = 'command'\ncommand = ['/bin/page']", "user"),
            ("kind = 'pigeon'", "unknown variant"),
        ] {
            let problem = read(toml).expect_err(toml);
            assert!(problem.contains(part), "{toml}: {problem}");
        }
    }

    #[test]
    fn the_public_url_is_an_origin() {
        let origin = |url: &str| {
            let answers = Answers {
                listen: ([127, 0, 0, 1], 1).into(),
                certificate: PathBuf::new(),
                key: PathBuf::new(),
                public_url: url.to_owned(),
            };
            answers.origin().ok()
        };
        assert_eq!(
            origin("https://a.example:8443/").as_deref(),
            Some("https://a.example:8443")
        );
        assert!(origin("https://${HOSTNAME}").is_some_and(|it| !it.contains('$')));
        for url in [
            "http://a",
            "https://a/x",
            "https://u@a",
            "a",
            "https://a?b",
            "",
        ] {
            assert_eq!(origin(url), None, "{url}");
        }
    }
}
