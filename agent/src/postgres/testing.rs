//! A real PostgreSQL for tests: TLS on, SCRAM, on a loopback port, not as root.

use std::{
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::catalog::{
    Entry,
    tests::{credentials, entry},
};

/// `nobody`, on every Linux.
const NOBODY: u32 = 65534;
pub(crate) const PASSWORD: &str = "pāss \\' word";

/// The password of `agent@p.iam`.
pub(crate) const TOKEN: &str = "ya29.real-token";

/// A CA for tests.
pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate with this common name, and for these hosts.
pub(crate) fn leaf(common_name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

/// Runs until it is dropped.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    pub(crate) dir: tempfile::TempDir,
    bin: PathBuf,
    child: Child,
}

impl Postgres {
    /// One with users `scram`, `md5`, `clear` and `cert`, who are asked for what they are called. `None` where PostgreSQL is not installed, which CI does not put up with.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = bin() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "there is no /usr/lib/postgresql/*/bin: install the package postgresql"
            );
            eprintln!("not run: there is no PostgreSQL here");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
            .expect("changed");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("made");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).expect("root");
        }
        let made = unprivileged(&bin.join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{made:?}");
        let ca = ca("the test's CA");
        furnish(dir.path(), &ca);
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let child = unprivileged(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k", "", "-h", "127.0.0.1", "-F"])
            .args([
                "-c",
                "ssl=on",
                "-c",
                "log_connections=on",
                "-c",
                "ssl_ca_file=ca.pem",
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).expect("made"))
            .spawn()
            .expect("postgres");
        let server = Self {
            port,
            dir,
            bin,
            child,
        };
        server.set_up();
        Some(server)
    }

    fn set_up(&self) {
        let limit = Instant::now() + Duration::from_secs(60);
        let sql = "create role scram login password :'p'; create role clear login password :'p'; create role cert login; create role \"agent@p.iam\" login password :'t'; \
                   create database orders; set password_encryption = 'md5'; create role md5 login password :'p';";
        loop {
            let mut psql = self.psql("host=127.0.0.1 user=postgres dbname=postgres");
            psql.args(["-v", &format!("p={PASSWORD}"), "-v", &format!("t={TOKEN}")]);
            psql.args(["-v", "ON_ERROR_STOP=1"]);
            psql.args(["-f", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped());
            let mut running = psql.spawn().expect("psql");
            let mut input = running.stdin.take().expect("piped");
            // One that cannot connect does not read.
            let _ = std::io::Write::write_all(&mut input, sql.as_bytes());
            drop(input);
            let output = running.wait_with_output().expect("psql");
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < limit, "{output:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// psql to the server itself.
    pub(crate) fn psql(&self, options: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("PGPORT", self.port.to_string())
            .env("PGCONNECT_TIMEOUT", "20")
            .args(["-X", "-A", "-t", options]);
        command
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A `[[connection]]` to it as this user, with the right password.
    pub(crate) fn entry(&self, user: &str, more: &str) -> Arc<Entry> {
        Arc::new(entry(&self.toml(user, more), &credentials()))
    }

    pub(crate) fn toml(&self, user: &str, more: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "name = 'a'\naddresses = ['db.internal:5432']\ndial = '127.0.0.1:{}'\nuser = '{user}'\npassword_file = '{dir}/password'\nca_file = '{dir}/ca.pem'\n{more}",
            self.port
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once (pg_ctl's "immediate").
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap_or(i32::MAX));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("postgres").exists()).max()
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn furnish(dir: &Path, ca: &Ca) {
    let key = KeyPair::generate().expect("a key");
    let server = leaf("a server", &["127.0.0.1"])
        .signed_by(&key, ca)
        .expect("signed");
    let client_key = KeyPair::generate().expect("a key");
    let client = leaf("cert", &[])
        .signed_by(&client_key, ca)
        .expect("signed");
    let hba = "host all postgres 127.0.0.1/32 trust\nhost all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\n\
               host all clear 127.0.0.1/32 password\n\
               hostssl all \"agent@p.iam\" 127.0.0.1/32 password\nhostssl all cert 127.0.0.1/32 cert\n";
    for (name, content, mode) in [
        ("data/server.crt", server.pem(), 0o600),
        ("data/server.key", key.serialize_pem(), 0o600),
        ("data/ca.pem", ca.pem(), 0o600),
        ("data/pg_hba.conf", hba.to_owned(), 0o600),
        ("ca.pem", ca.pem(), 0o644),
        ("client.crt", client.pem(), 0o644),
        ("client.key", client_key.serialize_pem(), 0o600),
        ("password", format!("{PASSWORD}\n"), 0o600),
    ] {
        let file = dir.join(name);
        std::fs::write(&file, content).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("changed");
        if name.starts_with("data/") && nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).expect("root");
        }
    }
}

/// What a program said.
pub(crate) fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[&out[..], error].concat()).into_owned()
}
