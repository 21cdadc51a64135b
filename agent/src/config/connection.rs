//! `[[connection]]`: the databases that sessions reach, and how Holdpoint logs in there.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, ensure};
use holdpoint_core::catalog::Catalog;
use serde::Deserialize;

use super::Config;
use crate::{binding, dns::is_localhost, metadata, sqladmin};

/// One database server, under every address that sessions know it by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// What policies, people and the record call it.
    pub name: String,
    /// Its instance connection name, if it is Cloud SQL's.
    pub instance: Option<Instance>,
    /// Where sessions connect to. All of it is this one server. None, where they use Cloud SQL connectors alone.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Where it really is. The first of the addresses when absent.
    pub dial: Option<Place>,
    /// The databases that may be asked for. Empty: all.
    #[serde(default)]
    pub databases: BTreeSet<String>,
    /// The users that an agent may say it is. Empty: it does not matter what it says.
    #[serde(default)]
    pub agent_users: BTreeSet<String>,
    /// How many connections one session may have there at once: the server has a bounded number of them for everybody.
    #[serde(default = "default_session_connections")]
    pub session_connections: usize,
    /// Who Holdpoint logs in as. With `iam`, the service account's when absent.
    pub user: Option<String>,
    /// The file with its password. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    pub password_file: Option<PathBuf>,
    /// Whether the password is an access token of the service account's (Cloud SQL IAM database authentication).
    #[serde(default)]
    pub iam: bool,
    /// What is asked of the server's certificate.
    #[serde(default)]
    pub tls: TlsMode,
    /// CA certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name in the server's certificate, where it is another than that of `dial`.
    pub server_name: Option<String>,
    /// A certificate to show to the server, and its chain.
    pub certificate_file: Option<PathBuf>,
    /// Its private key. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    pub key_file: Option<PathBuf>,
    /// Files with CA certificates that clients are told to trust (`sslrootcert`): in sessions, Holdpoint's lie over them. `~/` at the start stands for
    /// the home directory of whose session it is.
    #[serde(default)]
    pub root_files: Vec<PathBuf>,
}

/// PostgreSQL's own `max_connections` is 100.
fn default_session_connections() -> usize {
    50
}

/// What is asked of a server's certificate, in libpq's words (`sslmode`) where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// A CA that is trusted has signed it, for this name; or, without any name for hosts in it, for this instance of Cloud SQL.
    #[default]
    VerifyFull,
    /// A CA that is trusted has signed it. As good as the former where the CA signs for one server only.
    VerifyCa,
    /// Nothing: whoever is in between can read and change everything.
    Unverified,
    /// There is no TLS.
    Off,
}

impl TlsMode {
    /// Whether the other side is known to be the server.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyFull | Self::VerifyCa)
    }
}

/// `PROJECT:REGION:INSTANCE`. (A project of a domain's has a colon of its own.)
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Instance {
    /// The project's id.
    pub project: String,
    /// The region.
    pub region: String,
    /// The instance's id.
    pub id: String,
}

impl TryFrom<String> for Instance {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = text.rsplitn(3, ':').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id), Some(region), Some(project))
                if ![&id, &region, &project].iter().any(|it| it.is_empty()) =>
            {
                Ok(Self {
                    project,
                    region,
                    id,
                })
            }
            _ => Err("instance has to be PROJECT:REGION:INSTANCE".to_owned()),
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.project, self.region, self.id)
    }
}

/// Where sessions connect to: addresses, or a name; and a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// The host.
    pub hosts: Hosts,
    /// The port.
    pub port: u16,
}

/// One host or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All whose address begins with these bits.
    Range(Range),
    /// The one of this name, in lower case and without the dot at its end.
    Named(String),
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

/// One host, by address or name, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Place {
    /// An address without brackets, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Range {
    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                same_start(first.to_bits().into(), ip.to_bits().into(), self.bits, 32)
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                same_start(first.to_bits(), ip.to_bits(), self.bits, 128)
            }
            _ => false,
        }
    }

    /// Ranges of leading bits overlap where one contains the other's first.
    fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    fn single(self) -> Option<IpAddr> {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        (self.bits == width).then_some(self.first)
    }
}

fn same_start(one: u128, other: u128, bits: u8, width: u8) -> bool {
    bits == 0 || (one ^ other) >> (width - bits) == 0
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address
            .parse()
            .map_err(|_| format!("{text} is no address"))?;
        if first != first.to_canonical() {
            return Err(format!(
                "{text} is an IPv4 address in IPv6's dress: write it as IPv4"
            ));
        }
        let width = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| {
            let bits = bits.parse().ok().filter(|bits| *bits <= width);
            bits.ok_or_else(|| format!("{text}: a number up to {width} has to follow the slash"))
        })?;
        let range = Self { first, bits };
        let below = match first {
            IpAddr::V4(first) => u128::from(first.to_bits()),
            IpAddr::V6(first) => first.to_bits(),
        };
        let rest = u32::from(width - bits);
        if rest > 0 && below.trailing_zeros() < rest {
            return Err(format!(
                "{text} has bits set after the first {bits}: is it one address (then leave /{bits} out), or a range?"
            ));
        }
        Ok(range)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (host, port) = split_port(&text)?;
        let is_range = host.contains('/') || host.parse::<IpAddr>().is_ok();
        let hosts = if is_range {
            let range: Range = host.parse()?;
            check_range(range)?;
            Hosts::Range(range)
        } else {
            Hosts::Named(host_name(host)?)
        };
        Ok(Self { hosts, port })
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (host, port) = split_port(&text)?;
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => plain_name(host)?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `HOST:PORT`, IPv6 in brackets.
fn split_port(text: &str) -> Result<(&str, u16), String> {
    let problem = || {
        format!(
            "\"{text}\" has to be HOST:PORT, such as db.internal:5432, with brackets around IPv6"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(problem)?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(problem)?,
        None if host.contains(':') => return Err(problem()),
        None => host,
    };
    Ok((bare, port))
}

fn plain_name(host: &str) -> Result<String, String> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner)
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("\"{host}\" is neither an address nor a host name"));
    }
    Ok(name)
}

/// One that sessions may ask their resolver for without it meaning something else.
fn host_name(host: &str) -> Result<String, String> {
    let name = plain_name(host)?;
    let special = is_localhost(&name)
        || metadata::NAMES.contains(&name.as_str())
        || name == binding::NAME
        || Catalog::built_in().is_google_host(&name);
    if special {
        return Err(format!(
            "{name} cannot be a database's: Holdpoint answers for that name itself"
        ));
    }
    Ok(name)
}

/// Names' addresses (RFC 2544), the metadata server's and the session's own lead elsewhere.
fn check_range(range: Range) -> Result<(), String> {
    let not: [(Range, &str); 4] = [
        (v4([127, 0, 0, 0], 8), "a session's own"),
        (v4([198, 18, 0, 0], 15), "what names stand for in sessions"),
        (v4([169, 254, 0, 0], 16), "the metadata server's network"),
        (v4([224, 0, 0, 0], 3), "nobody's"),
    ];
    if let Some((_, whose)) = not.iter().find(|(other, _)| range.overlaps(*other)) {
        return Err(format!(
            "addresses of a connection overlap with {whose}; use those that agents are given for the database, and `dial` for where it is"
        ));
    }
    if range.contains(metadata::ADDRESS_V6.into())
        || range.contains(std::net::Ipv6Addr::LOCALHOST.into())
    {
        return Err("addresses of a connection overlap with a session's own".to_owned());
    }
    Ok(())
}

fn v4(octets: [u8; 4], bits: u8) -> Range {
    Range {
        first: Ipv4Addr::from(octets).into(),
        bits,
    }
}

impl Address {
    fn overlaps(&self, other: &Self) -> bool {
        self.port == other.port
            && match (&self.hosts, &other.hosts) {
                (Hosts::Range(one), Hosts::Range(other)) => one.overlaps(*other),
                (Hosts::Named(one), Hosts::Named(other)) => one == other,
                _ => false,
            }
    }
}

impl Connection {
    /// Where it really is.
    ///
    /// # Errors
    /// When nothing says so.
    pub fn place(&self) -> anyhow::Result<Place> {
        if let Some(dial) = &self.dial {
            return Ok(dial.clone());
        }
        if let Some(instance) = self.by_connector() {
            return Ok(Place {
                host: instance.id.clone(),
                port: sqladmin::PORT,
            });
        }
        let first = self
            .addresses
            .first()
            .context("it needs `addresses`, or `instance` for Cloud SQL connectors")?;
        let host = match &first.hosts {
            Hosts::Named(name) => name.clone(),
            Hosts::Range(range) => range
                .single()
                .context("its first address is a range: it needs `dial`, where the server is")?
                .to_string(),
        };
        Ok(Place {
            host,
            port: first.port,
        })
    }

    /// The instance, where Google says at which address it is, and Holdpoint goes there as a Cloud SQL connector does.
    #[must_use]
    pub fn by_connector(&self) -> Option<&Instance> {
        let is_placed = self.dial.is_some() || !self.addresses.is_empty();
        self.instance.as_ref().filter(|_| !is_placed)
    }

    fn check(&self) -> anyhow::Result<()> {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        ensure!(
            (1..=64).contains(&self.name.len()) && self.name.bytes().all(fit),
            "its name has to be 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'"
        );
        self.place()?;
        ensure!(
            self.user.is_some() || self.iam,
            "it needs `user`, whom Holdpoint logs in as, or `iam = true`"
        );
        ensure!(
            !(self.iam && self.password_file.is_some()),
            "it has a `password_file` and `iam`: leave out one of them, as `iam` is its own password"
        );
        ensure!(
            !self.iam || self.tls.is_verified(),
            "with `iam` it needs tls = \"verify-full\" or \"verify-ca\": the server is sent an access token"
        );
        ensure!(
            self.certificate_file.is_some() == self.key_file.is_some(),
            "certificate_file and key_file belong together, and one of them is missing"
        );
        ensure!(
            self.tls != TlsMode::Off || (self.certificate_file.is_none() && self.ca_file.is_none()),
            "with tls = \"off\" there are no certificates: leave out ca_file, certificate_file and key_file, or say tls = \"verify-full\""
        );
        let has_place = |file: &PathBuf| file.is_absolute() || file.starts_with("~");
        ensure!(
            self.root_files.iter().all(has_place),
            "root_files are absolute paths, or begin with ~/"
        );
        Ok(())
    }
}

impl Config {
    pub(super) fn check_connections(&self) -> anyhow::Result<()> {
        for (index, connection) in self.connections.iter().enumerate() {
            let context = || format!("[[connection]] \"{}\"", connection.name);
            connection.check().with_context(context)?;
            for other in &self.connections[..index] {
                ensure!(
                    other.name != connection.name,
                    "there are two [[connection]]s of the name \"{}\"",
                    other.name
                );
                let mut addresses = connection.addresses.iter();
                let clash = addresses.find(|it| other.addresses.iter().any(|at| at.overlaps(it)));
                ensure!(
                    clash.is_none(),
                    "the [[connection]]s \"{}\" and \"{}\" have an address and port in common: which of them is meant could not be known",
                    other.name,
                    connection.name
                );
            }
        }
        Ok(())
    }

    /// Files over which Holdpoint's CA certificates lie in sessions.
    #[must_use]
    pub fn root_files(&self) -> Vec<PathBuf> {
        let files = self.connections.iter().flat_map(|it| &it.root_files);
        files.cloned().collect()
    }
}

#[cfg(test)]
mod tests;
