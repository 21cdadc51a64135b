//! The databases that sessions reach: `[[connection]]`, ready to be used.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use holdpoint_core::sql::{Cache, Parsed, Shapes};
use tokio::task::block_in_place;
use zeroize::Zeroizing;

use super::{
    cancel::Cancels,
    lookup::Lookups,
    server::trust::{self, ServerTls},
};
use crate::{
    config::{
        Config,
        connection::{Address, Connection, Hosts, Instance, Place, TlsMode},
        in_credentials_directory,
    },
    credential::{Credentials, read_private},
    dns::AddressBook,
    sqladmin::Dialer,
    upstream::Upstream,
};

/// Where PostgreSQL is to be expected: its port, as IANA has it.
pub const PORT: u16 = 5432;

/// Bytes of a text from which on it is read alone: what takes a second and a gigabyte is not to be taken by all sessions at once.
const LARGE: usize = 64 << 10;

/// What this host knows of databases.
#[derive(Default)]
pub struct Databases {
    entries: Vec<Arc<Entry>>,
    /// Which connection of an agent's a request to cancel is about.
    pub cancels: Cancels,
    /// What texts say, which come again and again.
    statements: Mutex<Cache>,
    /// The same for those that never come again, but with another number in them.
    shapes: Shapes,
    /// Held while a large text is read.
    large: Mutex<()>,
    /// What names mean on the servers.
    pub lookups: Lookups,
}

impl Databases {
    /// What a text says.
    ///
    /// # Panics
    /// For a large one, on a runtime of one thread.
    #[must_use]
    pub fn parse(&self, text: &str) -> Arc<Parsed> {
        let parse = |text: &str| Cache::parse(&self.statements, text);
        if text.len() <= LARGE {
            return self.shapes.parse(text, parse);
        }
        block_in_place(|| {
            let _alone = self.large.lock().unwrap_or_else(PoisonError::into_inner);
            parse(text)
        })
    }

    /// Those of the configuration.
    ///
    /// # Errors
    /// When one is missing, or not what it has to be.
    pub fn new(
        config: &Config,
        credentials: &Arc<Credentials>,
        upstream: &Upstream,
    ) -> anyhow::Result<Self> {
        let entry = |connection: &Connection| {
            let entry = Entry::new(connection, credentials.clone(), upstream);
            entry
                .map(Arc::new)
                .with_context(|| format!("[[connection]] \"{}\"", connection.name))
        };
        Ok(Self {
            entries: config
                .connections
                .iter()
                .map(entry)
                .collect::<Result<_, _>>()?,
            cancels: Cancels::default(),
            statements: Mutex::default(),
            shapes: Shapes::default(),
            large: Mutex::default(),
            lookups: Lookups::default(),
        })
    }

    /// The one that is meant by an address; by its name, where the session's resolver has given the address out for one.
    #[must_use]
    pub fn at(&self, name: Option<&str>, to: SocketAddr) -> Option<&Arc<Entry>> {
        let means = |address: &Address| match (&address.hosts, name) {
            (Hosts::Named(own), Some(name)) => address.port == to.port() && own == name,
            (Hosts::Range(range), None) => address.port == to.port() && range.contains(to.ip()),
            _ => false,
        };
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.addresses.iter().any(means))
    }

    /// Whether a name, in lower case and without the dot at its end, is one of a database's.
    #[must_use]
    pub fn know(&self, name: &str) -> bool {
        let named = |address: &Address| matches!(&address.hosts, Hosts::Named(own) if own == name);
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.addresses.iter().any(named))
    }

    /// The one that is this instance of Cloud SQL.
    #[must_use]
    pub fn of_instance(&self, project: &str, id: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| {
            let instance = entry.instance.as_deref().unwrap_or_default();
            let instance = Instance::try_from(instance.to_owned());
            instance.is_ok_and(|it| it.project == project && it.id == id)
        })
    }

    /// The one of this name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| &*entry.name == name)
    }
}

/// What a client calls the host it connects to: the name it asked the resolver for, or the address itself.
#[must_use]
pub fn host_asked_for(book: &AddressBook, ip: IpAddr) -> String {
    book.name_of(ip)
        .unwrap_or_else(|| ip.to_canonical().to_string())
}

/// One database server, and how Holdpoint logs in there.
pub struct Entry {
    /// What policies, people and the record call it.
    pub name: Arc<str>,
    /// `PROJECT:REGION:INSTANCE`, if it is Cloud SQL's.
    pub instance: Option<Arc<str>>,
    /// Where it really is.
    pub place: Place,
    /// The databases that may be asked for. Empty: all.
    pub databases: BTreeSet<String>,
    /// The users that an agent may say it is. Empty: it does not matter.
    pub agent_users: BTreeSet<String>,
    /// How many connections one session may have there at once.
    pub session_connections: usize,
    addresses: Vec<Address>,
    user: Option<Arc<str>>,
    login: Login,
    pub(super) tls: ServerTls,
    /// The way there, where Google tells it.
    pub(super) by_connector: Option<Dialer>,
    credentials: Arc<Credentials>,
}

/// What Holdpoint logs in with, besides the certificate in [`ServerTls`].
enum Login {
    /// The server knows it otherwise.
    Nothing,
    /// Read anew each time, so that it can be changed.
    PasswordFile(PathBuf),
    /// <https://cloud.google.com/sql/docs/postgres/iam-logins>
    Iam,
}

/// What proves to a server who logs in.
pub enum Secret {
    /// There is none.
    Nothing,
    /// A password.
    Password(Zeroizing<Vec<u8>>),
    /// An access token of Google's, in a password's place.
    Token(Zeroizing<Vec<u8>>),
}

impl Entry {
    /// One of the configuration. Its secrets and certificates are read here, so that what is missing is found at the start.
    ///
    /// # Errors
    /// When one is missing, or not what it has to be.
    pub(crate) fn new(
        connection: &Connection,
        credentials: Arc<Credentials>,
        upstream: &Upstream,
    ) -> anyhow::Result<Self> {
        let login = match (&connection.password_file, connection.iam) {
            (_, true) => Login::Iam,
            (Some(file), false) => Login::PasswordFile(in_credentials_directory(file)?),
            (None, false) => Login::Nothing,
        };
        if let Login::PasswordFile(file) = &login {
            read_password(file)?;
        }
        let name = &connection.name;
        match connection.tls {
            TlsMode::Unverified => tracing::warn!(
                connection = name,
                "tls = \"unverified\": whoever is between this host and the database can read and change everything"
            ),
            TlsMode::Off => tracing::warn!(
                connection = name,
                "tls = \"off\": everything goes to the database in clear"
            ),
            TlsMode::VerifyFull | TlsMode::VerifyCa => {}
        }
        Ok(Self {
            name: name.as_str().into(),
            instance: connection.instance.as_ref().map(|it| it.to_string().into()),
            place: connection.place()?,
            databases: connection.databases.clone(),
            agent_users: connection.agent_users.clone(),
            session_connections: connection.session_connections,
            addresses: connection.addresses.clone(),
            user: connection.user.as_deref().map(Into::into),
            login,
            tls: trust::server_tls(connection)?,
            by_connector: connection.by_connector().map(|instance| {
                let (upstream, iam) = (upstream.clone(), connection.iam);
                Dialer::new(instance.clone(), iam, upstream, credentials.clone())
            }),
            credentials,
        })
    }

    /// Who Holdpoint logs in as.
    ///
    /// # Errors
    /// When that is the service account, and it is not known who that is.
    pub async fn user(&self) -> anyhow::Result<Arc<str>> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let account = self.credentials.account().await?;
        Ok(Self::user_of(&account).into())
    }

    /// What a service account is called as a user of a database: "Due to the length limit on a database username, you must omit the .gserviceaccount.com
    /// suffix." (<https://cloud.google.com/sql/docs/postgres/add-manage-iam-users>)
    #[must_use]
    pub fn user_of(account: &str) -> &str {
        let user = account.strip_suffix(".gserviceaccount.com");
        user.unwrap_or(account)
    }

    /// # Errors
    /// When it cannot be read or fetched.
    pub(super) async fn secret(&self) -> anyhow::Result<Secret> {
        match &self.login {
            Login::Nothing => Ok(Secret::Nothing),
            Login::PasswordFile(file) => read_password(file).map(Secret::Password),
            Login::Iam => {
                let header = self.credentials.authorization().await?;
                let token = header.as_bytes().strip_prefix(b"Bearer ");
                let token = token.context("the access token is no bearer token")?;
                Ok(Secret::Token(Zeroizing::new(token.to_vec())))
            }
        }
    }

    /// Whether a database may be asked for.
    #[must_use]
    pub fn has_database(&self, database: &str) -> bool {
        self.databases.is_empty() || self.databases.contains(database)
    }

    /// Whether an agent may say that this is its user.
    #[must_use]
    pub fn takes_agent_user(&self, user: &str) -> bool {
        self.agent_users.is_empty() || self.agent_users.contains(user)
    }
}

/// What is in the file, without the line's end that editors put there.
fn read_password(file: &std::path::Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let context = || format!("the password_file {}", file.display());
    let mut password = read_private(file).with_context(context)?;
    let end = password.strip_suffix(b"\n").unwrap_or(&password);
    let length = end.strip_suffix(b"\r").unwrap_or(end).len();
    password.truncate(length);
    anyhow::ensure!(
        !password.is_empty() && !password.contains(&0),
        "{} is empty, or holds a zero byte: write the password into it, and nothing else",
        context()
    );
    Ok(password)
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
