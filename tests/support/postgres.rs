//! A real PostgreSQL of a test's own: TLS on, passwords required, everything it is asked written into a log that tests read.

mod bystander;
mod connection;
mod fingerprint;
mod log;
mod setup;
mod versions;

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User as SystemUser, chown},
};
use tempfile::TempDir;

pub use self::{
    bystander::Bystander,
    connection::Connection,
    fingerprint::Fingerprint,
    log::{Entry, LOOKUP, Log},
    setup::ADMIN,
};
use crate::{interrupts::Leftovers, stand_in::Authority};

/// The name agents use for the server; its certificate carries it.
pub const HOST: &str = "db.internal";
/// The address agents use for the server; its certificate carries it. Nobody has it (RFC 5737).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// The port agents use for the server.
pub const AGENT_PORT: u16 = 5432;
/// The database that [`Role::App`] owns; `postgres/shop.sql` says what is in it.
pub const DATABASE: &str = "shop";

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Who can log in over TCP, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns [`DATABASE`]; SCRAM-SHA-256 over TLS.
    App,
    /// A superuser; SCRAM-SHA-256 over TLS.
    Superuser,
    /// The server insists on md5, over TLS.
    Md5,
    /// A certificate over TLS, no password.
    Certificate,
    /// The password in clear over TLS, as Cloud SQL asks an IAM user for an access token.
    Iam,
    /// SCRAM-SHA-256, and only without TLS.
    Plain,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::App,
        Self::Superuser,
        Self::Md5,
        Self::Certificate,
        Self::Iam,
        Self::Plain,
    ];

    /// The name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Superuser => "dba",
            Self::Md5 => "app_md5",
            Self::Certificate => "app_cert",
            Self::Iam => "agent@lab-project.iam",
            Self::Plain => "app_plain",
        }
    }
}

/// What a server shows that it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerCertificate {
    /// A certificate for [`HOST`] and [`ADDRESS`] that is good.
    #[default]
    Good,
    /// The same, and it was good until yesterday.
    Expired,
    /// A good one, of `elsewhere.internal`.
    OfAnother,
}

/// What servers can differ in.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its major version; none for the one Debian has. Others come as npm packages, without `psql` and its like.
    pub version: Option<u32>,
    /// What it shows that it is.
    pub certificate: ServerCertificate,
    /// Whether the log says what was asked; without it, a server is as fast as it can be.
    pub logs_statements: bool,
    /// Further settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: None,
            certificate: ServerCertificate::Good,
            logs_statements: true,
            settings: Vec::new(),
        }
    }
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Postgres {
    /// Where it listens.
    pub address: SocketAddr,
    server: Child,
    /// Debian's, whatever the server is.
    programs: PathBuf,
    password: String,
    dir: TempDir,
}

impl Options {
    /// The server that differs so.
    ///
    /// # Panics
    /// When this host has no PostgreSQL, or it does not start.
    #[must_use]
    pub fn start(&self) -> Postgres {
        Postgres::with(self).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

impl Postgres {
    /// A server as most tests want it.
    ///
    /// # Panics
    /// When this host has no PostgreSQL, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// Whether this host has one to start.
    #[must_use]
    pub fn is_installed() -> bool {
        binaries().is_ok()
    }

    /// A server that differs.
    ///
    /// # Errors
    /// When this host has no PostgreSQL, or it does not start.
    pub fn with(options: &Options) -> anyhow::Result<Self> {
        let programs = binaries()?;
        let account = account()?;
        let dir = tempfile::Builder::new()
            .prefix("holdpoint-postgres-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let password = hex::encode(random);
        for place in ["data", "run"] {
            let place = dir.path().join(place);
            fs::create_dir(&place)?;
            fs::set_permissions(&place, Permissions::from_mode(0o700))?;
            chown(&place, Some(account.uid), Some(account.gid))?;
        }
        let binaries = match options.version {
            Some(version) => versions::binaries(version, dir.path())?,
            None => programs.clone(),
        };
        certificates(dir.path(), &account, options.certificate)?;
        secret(&dir.path().join("password"), &password)?;
        let data = dir.path().join("data");
        initialise(&binaries, &account, &data)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        fs::write(
            data.join("postgresql.conf"),
            setup::configuration(dir.path(), port, options),
        )?;
        fs::write(data.join("pg_hba.conf"), setup::host_based_authentication())?;
        let server = spawn(&binaries, &account, &data, &dir.path().join("server.log"))?;
        let mut postgres = Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            server,
            programs,
            password,
            dir,
        };
        postgres.wait_until_ready()?;
        postgres.populate()?;
        Ok(postgres)
    }

    /// An entry of Holdpoint's catalog for this server, that logs in as `role`; agents know it by [`HOST`] and [`ADDRESS`].
    ///
    /// # Panics
    /// When the password cannot be written.
    #[must_use]
    pub fn connection(&self, role: Role) -> Connection {
        Connection::to(self, role)
    }

    /// What the server has written down so far.
    #[must_use]
    pub fn log(&self) -> Log {
        let text = fs::read(self.dir().join("server.log")).unwrap_or_default();
        Log::parse(&String::from_utf8_lossy(&text))
    }

    /// Runs SQL as the superuser, over the server's own socket and past its log; answers with unaligned rows.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn query(&self, database: &str, sql: &str) -> String {
        self.try_query(database, sql)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Whether a relation of that name is there.
    #[must_use]
    pub fn has_relation(&self, name: &str) -> bool {
        let sql = format!("SELECT to_regclass('{name}') IS NOT NULL");
        self.query(DATABASE, &sql) == "t"
    }

    /// A program of Debian's version: `psql`, `pg_dump`, `pgbench`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The password of every role that has one.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Makes all roles take another password: the access token of the day.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn change_password(&self, role: Role, password: &str) {
        let sql = format!("ALTER ROLE \"{}\" PASSWORD '{password}'", role.name());
        let _ = self.query("postgres", &sql);
    }

    /// The certificate of the authority that signed the server's and the role's.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// The certificate and the key of [`Role::Certificate`].
    #[must_use]
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.dir().join("client.pem"), self.dir().join("client.key"))
    }

    /// The server's own socket, which only root and the server's account reach.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let name = format!("run/.s.PGSQL.{}", self.address.port());
        self.dir().join(name)
    }

    /// An entry of Holdpoint's catalog for this server as an instance of Cloud SQL, reached by connectors alone.
    #[must_use]
    pub fn connection_by_connector(&self, role: Role, instance: &str) -> Connection {
        Connection::by_connector(self, role, instance)
    }

    /// Where its files are; every user can look into it, not into the data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// How a client on this host reaches the server past Holdpoint, as `role`: libpq's environment.
    #[must_use]
    pub fn environment(&self, role: Role) -> Vec<(&'static str, String)> {
        let mode = match role {
            Role::Plain => "disable",
            _ => "verify-full",
        };
        let (certificate, key) = self.client_certificate();
        let mut environment = vec![
            ("PGHOST", HOST.to_owned()),
            ("PGHOSTADDR", self.address.ip().to_string()),
            ("PGPORT", self.address.port().to_string()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("PGUSER", role.name().to_owned()),
            ("PGPASSWORD", self.password.clone()),
            ("PGSSLMODE", mode.to_owned()),
            ("PGSSLROOTCERT", self.ca_file().display().to_string()),
        ];
        if role == Role::Certificate {
            environment.push(("PGSSLCERT", certificate.display().to_string()));
            environment.push(("PGSSLKEY", key.display().to_string()));
        }
        environment
    }

    /// A program of Debian's version, past Holdpoint, as `role`.
    #[must_use]
    pub fn client(&self, program: &str, role: Role) -> Command {
        let mut command = Command::new(self.program(program));
        command.envs(self.environment(role));
        command
    }

    /// What [`Drop`] ends and removes, for whoever may not get that far.
    #[must_use]
    pub fn remnants(&self) -> Remnants {
        Remnants {
            server: Pid::from_raw(self.pid().cast_signed()),
            dir: self.dir().to_owned(),
        }
    }

    /// A crash: every backend ends without a word to its client, and the listener is gone.
    ///
    /// # Panics
    /// When it does not end.
    pub fn crash(&mut self) {
        self.end().expect("the server ends");
    }

    fn try_query(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.program("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", ADMIN])
            .arg("-h")
            .arg(self.dir().join("run"))
            .args(["-p", &self.address.port().to_string(), "-d", database])
            .args(["-c", sql])
            .output()?;
        ensure!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.trim_end_matches('\n').to_owned())
    }

    fn populate(&self) -> anyhow::Result<()> {
        self.try_query("postgres", &setup::roles(&self.password))?;
        self.try_query("postgres", &setup::database())?;
        self.try_query(DATABASE, &setup::extensions())?;
        let owned = format!("SET ROLE app;\n{}", include_str!("postgres/shop.sql"));
        self.try_query(DATABASE, &owned)?;
        Ok(())
    }

    /// The eighth line of `postmaster.pid` says so (`src/include/utils/pidfile.h`).
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let file = self.dir().join("data/postmaster.pid");
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text
                .lines()
                .nth(7)
                .is_some_and(|it| it.trim_end() == "ready")
            {
                return Ok(());
            }
            let log = self.dir().join("server.log");
            let log = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = self.server.try_wait()? {
                bail!("PostgreSQL ended at once ({status}):\n{}", log());
            }
            ensure!(
                started.elapsed() < START_LIMIT,
                "PostgreSQL was not ready after {START_LIMIT:?}:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGQUIT: "immediate shutdown", which ends its backends too.
    fn end(&mut self) -> anyhow::Result<()> {
        if self.server.try_wait()?.is_some() {
            return Ok(());
        }
        kill(
            Pid::from_raw(self.server.id().cast_signed()),
            Signal::SIGQUIT,
        )?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if self.server.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("PostgreSQL did not end on SIGQUIT")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}

/// A server's processes and files.
#[derive(Debug)]
pub struct Remnants {
    server: Pid,
    dir: PathBuf,
}

impl Leftovers for Remnants {
    fn remove(self) {
        let _ = kill(self.server, Signal::SIGQUIT);
        let _ = fs::remove_dir_all(self.dir);
    }
}

/// The newest version there is, where Debian puts it.
fn binaries() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok().into_iter();
    let versions = versions.flatten().flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let binaries = version.path().join("bin");
        binaries
            .join("postgres")
            .is_file()
            .then_some((number, binaries))
    });
    let newest = versions.max().context(
        "needs a PostgreSQL server: install postgresql and postgresql-contrib (`.ci/run` does it on Debian)",
    )?;
    Ok(newest.1)
}

/// The server refuses to run as root.
fn account() -> anyhow::Result<SystemUser> {
    let account = SystemUser::from_name("postgres")?;
    account.context("needs the user postgres, which the package postgresql-common makes")
}

fn certificates(dir: &Path, account: &SystemUser, shown: ServerCertificate) -> anyhow::Result<()> {
    let authority = Authority::new("PostgreSQL")?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    let address = ADDRESS.to_string();
    let own = [HOST, "localhost", "127.0.0.1", &address];
    let other = "elsewhere.internal";
    let (certificate, key) = match shown {
        ServerCertificate::Good => authority.leaf_pem_for(HOST, &own)?,
        ServerCertificate::Expired => authority.expired_leaf_pem_for(HOST, &own)?,
        ServerCertificate::OfAnother => authority.leaf_pem_for(other, &[other])?,
    };
    fs::write(dir.join("server.pem"), certificate)?;
    secret(&dir.join("server.key"), &key)?;
    chown(
        &dir.join("server.key"),
        Some(account.uid),
        Some(account.gid),
    )?;
    let (certificate, key) = authority.leaf_pem_for(Role::Certificate.name(), &[])?;
    fs::write(dir.join("client.pem"), certificate)?;
    secret(&dir.join("client.key"), &key)
}

fn secret(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, "")?;
    fs::set_permissions(file, Permissions::from_mode(0o600))?;
    Ok(fs::write(file, text)?)
}

fn initialise(binaries: &Path, account: &SystemUser, data: &Path) -> anyhow::Result<()> {
    let output = Command::new(binaries.join("initdb"))
        .args(["--no-sync", "--auth=trust", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "-U", ADMIN, "-D"])
        .arg(data)
        .uid(account.uid.as_raw())
        .gid(account.gid.as_raw())
        .current_dir("/")
        .output()?;
    ensure!(
        output.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn spawn(binaries: &Path, account: &SystemUser, data: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let server = Command::new(binaries.join("postgres"))
        .arg("-D")
        .arg(data)
        .uid(account.uid.as_raw())
        .gid(account.gid.as_raw())
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(server)
}
