//! An entry of Holdpoint's catalog of databases.

use std::{fmt, path::PathBuf};

use super::{ADDRESS, AGENT_PORT, DATABASE, HOST, Postgres, Role};

/// A `[[connection]]`; its `Display` is the TOML. Tests change what they are about.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What the record calls it.
    pub name: String,
    /// The instance connection name, where it is one of Cloud SQL.
    pub instance: Option<String>,
    /// What agents ask for.
    pub addresses: Vec<String>,
    /// Where it really is, unless Google tells that.
    pub dial: Option<String>,
    /// The databases agents may ask for.
    pub databases: Vec<String>,
    /// Who Holdpoint is there.
    pub user: String,
    /// How Holdpoint shows that: keys and TOML values.
    pub credential: Vec<(&'static str, String)>,
    /// `verify-full`, `verify-ca`, `unverified` or `off`.
    pub tls: &'static str,
    /// The server's authority.
    pub ca_file: Option<PathBuf>,
    /// How many connections a session may have.
    pub session_connections: usize,
    /// Files in sessions that Holdpoint's own authority is laid over.
    pub root_files: Vec<PathBuf>,
}

impl Connection {
    pub(super) fn to(postgres: &Postgres, role: Role) -> Self {
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        let credential = match role {
            Role::Certificate => {
                let (certificate, key) = postgres.client_certificate();
                vec![
                    ("certificate_file", quoted(certificate)),
                    ("key_file", quoted(key)),
                ]
            }
            Role::Iam => vec![("iam", "true".to_owned())],
            _ => vec![("password_file", quoted(postgres.dir().join("password")))],
        };
        Self {
            name: DATABASE.to_owned(),
            instance: None,
            addresses: [HOST.to_owned(), ADDRESS.to_string()]
                .map(|host| format!("{host}:{AGENT_PORT}"))
                .to_vec(),
            dial: Some(postgres.address.to_string()),
            databases: vec![DATABASE.to_owned()],
            user: role.name().to_owned(),
            credential,
            tls: match role {
                Role::Plain => "off",
                _ => "verify-full",
            },
            ca_file: (role != Role::Plain).then(|| postgres.ca_file()),
            session_connections: 300,
            root_files: Vec::new(),
        }
    }

    pub(super) fn by_connector(postgres: &Postgres, role: Role, instance: &str) -> Self {
        Self {
            instance: Some(instance.to_owned()),
            addresses: Vec::new(),
            dial: None,
            tls: "verify-full",
            ca_file: None,
            ..Self::to(postgres, role)
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[connection]]\nname = {:?}", self.name)?;
        if let Some(instance) = &self.instance {
            writeln!(f, "instance = {instance:?}")?;
        }
        writeln!(f, "addresses = {:?}", self.addresses)?;
        if let Some(dial) = &self.dial {
            writeln!(f, "dial = {dial:?}")?;
        }
        writeln!(
            f,
            "databases = {:?}\nuser = {:?}\nsession_connections = {}",
            self.databases, self.user, self.session_connections
        )?;
        for (key, value) in &self.credential {
            writeln!(f, "{key} = {value}")?;
        }
        writeln!(f, "tls = {:?}", self.tls)?;
        if let Some(file) = &self.ca_file {
            writeln!(f, "ca_file = {:?}", file.display().to_string())?;
        }
        if !self.root_files.is_empty() {
            let files: Vec<_> = self
                .root_files
                .iter()
                .map(|it| it.display().to_string())
                .collect();
            writeln!(f, "root_files = {files:?}")?;
        }
        Ok(())
    }
}
