//! pgbouncer as a yardstick: session mode, TLS and SCRAM on both sides.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use holdpoint_tests::{
    host,
    postgres::{DATABASE, Postgres, Role},
};
use nix::unistd::User;

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running pgbouncer in front of the server.
pub struct PgBouncer {
    child: Child,
    port: u16,
}

impl PgBouncer {
    /// Starts one, with files of its own in the server's directory.
    pub fn start(postgres: &Postgres) -> anyhow::Result<Self> {
        host::require_program("pgbouncer", "pgbouncer").context(
            "`apt-get install pgbouncer` gets it, or leave it out: --contenders direct,holdpoint",
        )?;
        // It refuses to run as root, and the server's key is its user's.
        let account = User::from_name("postgres")?.context("needs the user postgres")?;
        let dir = postgres.dir().join("pgbouncer");
        fs::create_dir(&dir)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let (user, password) = (Role::App.name(), postgres.password());
        let (files, place) = (postgres.dir().display(), dir.display());
        let users = format!("\"{user}\" \"{password}\"\n");
        let settings = format!(
            "[databases]\n\
             {DATABASE} = host=127.0.0.1 port={} dbname={DATABASE} user={user} password={password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = session\n\
             default_pool_size = 100\nauth_type = scram-sha-256\nauth_file = {place}/users\n\
             log_connections = 0\nlog_disconnections = 0\nignore_startup_parameters = extra_float_digits\n\
             client_tls_sslmode = require\nclient_tls_cert_file = {files}/server.pem\n\
             client_tls_key_file = {files}/server.key\n\
             server_tls_sslmode = verify-full\nserver_tls_ca_file = {files}/ca.pem\n",
            postgres.address.port()
        );
        for (name, text) in [("users", users), ("settings", settings)] {
            let file = dir.join(name);
            fs::write(&file, text)?;
            chown(
                &file,
                Some(account.uid.as_raw()),
                Some(account.gid.as_raw()),
            )?;
        }
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new("pgbouncer")
            .arg(dir.join("settings"))
            .uid(account.uid.as_raw())
            .gid(account.gid.as_raw())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("pgbouncer does not start")?;
        let mut pgbouncer = Self { child, port };
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(pgbouncer);
            }
            if pgbouncer.child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "pgbouncer did not come up: {}",
            fs::read_to_string(dir.join("log"))?
        )
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its one process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
