//! A world of one test: a stand-in Google, an issuer, a daemon with files, pins and a cgroup of its own.

use std::{
    fs::{self, File, Permissions},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    configuration,
    daemon::Daemon,
    files::{copy_policies, holdpoint_binary, install},
    host,
    interrupts::Leftovers,
    issuer::Issuer,
    postgres::Connection,
    sandbox::Sandbox,
    stand_in::{Arrival, StandIn},
};

const LAUNCHER_LIMIT: Duration = Duration::from_secs(10);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Where the daemon under test gets its real credential from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// A service-account key file.
    #[default]
    Key,
    /// The host's metadata server.
    Metadata,
}

/// What a world can differ in.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The source of the real credential.
    pub credential: Credential,
    /// Seconds after which a held HTTP/2 request is answered "pending", where not the default.
    pub http2_answer_seconds: Option<u64>,
    /// Seconds a session may last, where not the default.
    pub max_seconds: Option<u64>,
    /// Cedar policies besides the shipped ones.
    pub extra_policies: String,
    /// Further issuers, by URL; the audience is the usual one.
    pub issuers: Vec<String>,
    /// The stand-in does not write down what arrives, and the daemon logs no details.
    pub silent: bool,
    /// Further hosts that are dialled at the stand-in.
    pub hosts: Vec<String>,
    /// Further hosts that are dialled elsewhere.
    pub addresses: Vec<(String, SocketAddr)>,
    /// Further tables of the configuration; `ISSUER` in it becomes the issuer's URL.
    pub extra_configuration: String,
    /// The catalog of databases.
    pub connections: Vec<Connection>,
}

impl Settings {
    /// Cedar policies besides the shipped ones.
    #[must_use]
    pub fn policies(self, text: &str) -> Self {
        Self {
            extra_policies: text.to_owned(),
            ..self
        }
    }

    /// Further tables of the configuration; `ISSUER` in it becomes the issuer's URL.
    #[must_use]
    pub fn configuration(self, text: &str) -> Self {
        Self {
            extra_configuration: text.to_owned(),
            ..self
        }
    }

    /// For what is measured: the stand-in does not write down what arrives, and the daemon logs no details.
    #[must_use]
    pub fn silent(self) -> Self {
        Self {
            silent: true,
            ..self
        }
    }

    /// The world that is so.
    ///
    /// # Panics
    /// When this host cannot run one, or the daemon does not start.
    #[must_use]
    pub fn start(&self) -> World {
        World::with(self).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// A running world.
#[derive(Debug)]
pub struct World {
    /// Google, as far as the daemon knows.
    pub google: StandIn,
    /// Who signs tokens.
    pub issuer: Issuer,
    name: String,
    log_filter: &'static str,
    daemon: Mutex<Option<Daemon>>,
    launcher: Mutex<Option<Child>>,
    dir: TempDir,
}

impl World {
    /// A world as most tests want it.
    ///
    /// # Panics
    /// When this host cannot run one, or the daemon does not start.
    #[must_use]
    pub fn start() -> Self {
        Settings::default().start()
    }

    /// A world that differs.
    ///
    /// # Errors
    /// When this host cannot run one, or the daemon does not start.
    pub fn with(settings: &Settings) -> anyhow::Result<Self> {
        host::require()?;
        let binary = holdpoint_binary()?;
        let dir = tempfile::Builder::new().prefix("holdpoint-").tempdir()?;
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), open)?;
        install(&binary, &dir.path().join("bin/holdpoint"))?;
        copy_policies(&dir.path().join("policies"), &settings.extra_policies)?;
        let place = dir.path().join("google");
        let google = match settings.silent {
            true => StandIn::start_silent(&place)?,
            false => StandIn::start(&place)?,
        };
        fs::set_permissions(place, Permissions::from_mode(0o700))?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            google,
            issuer: Issuer::start()?,
            name: format!("holdpoint-test-{}-{count}", std::process::id()),
            log_filter: if settings.silent {
                "warn,holdpoint::daemon=info"
            } else {
                "holdpoint=debug,info"
            },
            daemon: Mutex::new(None),
            launcher: Mutex::new(None),
            dir,
        };
        let text = configuration::text(
            world.dir(),
            &world.name,
            &world.google,
            &world.issuer,
            settings,
        )?;
        fs::write(world.config(), text)?;
        world.start_daemon()?;
        Ok(world)
    }

    /// Starts the daemon, as after a crash of the one before.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_daemon(&self) -> anyhow::Result<()> {
        let log = self.dir.path().join("daemon.log");
        let daemon = Daemon::start(&self.binary(), &self.config(), &log, self.log_filter)?;
        *self.daemon() = Some(daemon);
        Ok(())
    }

    /// Starts a launcher apart from the daemons that are started from now on, as systemd does: sessions then outlive those.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_launcher(&self) -> anyhow::Result<()> {
        let socket = self.dir.path().join("run/launcher.sock");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("daemon.log"))?;
        let mut launcher = self
            .holdpoint(&["launcher"])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = launcher.try_wait()? {
                bail!("the launcher ended: {status}\n{}", self.daemon_log());
            }
            ensure!(
                started.elapsed() < LAUNCHER_LIMIT,
                "the launcher does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        *self.launcher.lock().expect("no panic while locked") = Some(launcher);
        Ok(())
    }

    /// Ends the launcher, as systemd does: it alone.
    ///
    /// # Errors
    /// When there is none.
    pub fn stop_launcher(&self) -> anyhow::Result<()> {
        let launcher = self.launcher.lock().expect("no panic while locked").take();
        let mut launcher = launcher.context("no launcher runs")?;
        kill(Pid::from_raw(launcher.id().cast_signed()), Signal::SIGTERM)?;
        launcher.wait()?;
        Ok(())
    }

    /// `kill -9` to the daemon; returns when it is gone.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_daemon(&self) -> anyhow::Result<()> {
        self.daemon().take().context("no daemon runs")?.kill()
    }

    /// SIGTERM to the daemon; returns when it is gone.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub fn stop_daemon(&self) -> anyhow::Result<()> {
        self.daemon().take().context("no daemon runs")?.stop()
    }

    /// How the daemon has ended, if it does so by itself in this time.
    ///
    /// # Panics
    /// When none was started.
    #[must_use]
    pub fn daemon_ends_within(&self, limit: Duration) -> Option<ExitStatus> {
        let mut daemon = self.daemon();
        let daemon = daemon.as_mut().expect("a daemon was started");
        daemon.ends_within(limit)
    }

    /// One of the processes of a session, while there are any.
    #[must_use]
    pub fn process_of(&self, session: &str) -> Option<u32> {
        let processes = self.agents_cgroup().join(session).join("cgroup.procs");
        let processes = fs::read_to_string(processes).ok()?;
        processes.lines().next()?.parse().ok()
    }

    /// Where the daemon's own connections go.
    ///
    /// # Panics
    /// Never: the issuer's address is one.
    #[must_use]
    pub fn services(&self) -> Vec<SocketAddr> {
        let issuer = self.issuer.url().trim_start_matches("http://").parse();
        let issuer = issuer.expect("an address");
        vec![self.google.address, self.google.metadata, issuer]
    }

    /// The pins of the daemon's BPF programs and maps.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.name)
    }

    /// Fails when the daemon has died, or does not serve a new session.
    ///
    /// # Panics
    /// Then; `after` says what it was that killed it.
    pub fn assert_daemon_works(&self, after: &str) {
        let alive = self.daemon().as_mut().is_some_and(Daemon::is_alive);
        assert!(
            alive,
            "the daemon died after {after}:\n{}",
            self.daemon_log()
        );
        let ran = self
            .sandbox()
            .run(&["curl", "-sS", "--fail", INSTANCES_URL]);
        assert!(
            ran.status.success() && ran.stdout.contains("staging-db"),
            "a new session does not work after {after}: {ran}\n{}",
            self.daemon_log()
        );
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        let log = fs::read(self.dir.path().join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon().as_ref().expect("a daemon runs").pid()
    }

    /// Writes a policy file and has the daemon read it; returns once its log says `outcome`.
    ///
    /// # Panics
    /// When it does not say that.
    pub fn reload(&self, policy: &str, outcome: &str) {
        fs::write(self.dir().join("policies/90-test.cedar"), policy).expect("a policy file");
        let said = self.daemon_log().matches(outcome).count();
        let pid = i32::try_from(self.daemon_pid()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGHUP).expect("the daemon is alive");
        for _ in 0..200 {
            if self.daemon_log().matches(outcome).count() > said {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "the daemon did not say \"{outcome}\":\n{}",
            self.daemon_log()
        );
    }

    /// An agent's place: a user and a home of its own.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox<'_> {
        Sandbox::new(self)
    }

    /// Runs `holdpoint ARGS --config ...` as root and reads the JSON it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn holdpoint_json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let printed = self.printed_by(&[args, &["--output", "json"]].concat())?;
        serde_json::from_slice(&printed)
            .with_context(|| format!("holdpoint {} printed no JSON", args.join(" ")))
    }

    /// Runs `holdpoint ARGS --config ...` as root and reads what it prints for people.
    ///
    /// # Errors
    /// When it fails.
    pub fn holdpoint_text(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.printed_by(args)?).into_owned())
    }

    fn printed_by(&self, args: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.holdpoint(args).output()?;
        ensure!(
            output.status.success(),
            "holdpoint {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    }

    /// `holdpoint ARGS --config ...`, as root.
    #[must_use]
    pub fn holdpoint(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.args(args).arg("--config").arg(self.config());
        command
    }

    /// What has reached the stand-in on Google's APIs; token requests of the daemon's own are left out.
    ///
    /// # Panics
    /// When the journal cannot be read.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        let all = self
            .google
            .journal()
            .arrivals()
            .expect("upstream.jsonl can be read");
        let api = all
            .into_iter()
            .filter(|it| it.host != "oauth2.googleapis.com");
        api.collect()
    }

    /// How many requests, or parts of batches, asked for `method` on `path`.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.arrivals()
            .iter()
            .filter(|it| it.asks(method, path))
            .count()
    }

    /// Where this world's files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("holdpoint.toml")
    }

    /// The binary under test, where every user can run it.
    #[must_use]
    pub fn binary(&self) -> PathBuf {
        self.dir.path().join("bin/holdpoint")
    }

    /// The control API's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    /// The parent of this world's sessions' cgroups.
    ///
    /// # Panics
    /// When cgroup2 is gone.
    #[must_use]
    pub fn agents_cgroup(&self) -> PathBuf {
        host::cgroup2_root()
            .expect("cgroup2 was there")
            .join(&self.name)
    }

    /// The slice of units that open sessions, which nobody makes for a world.
    ///
    /// # Panics
    /// When cgroup2 is gone.
    #[must_use]
    pub fn agents_slice(&self) -> PathBuf {
        self.agents_cgroup().with_extension("slice")
    }

    /// What [`Drop`] ends and removes, for whoever may not get that far.
    #[must_use]
    pub fn remnants(&self) -> Remnants {
        Remnants {
            daemon: self.daemon().as_ref().map(Daemon::pid),
            agents: self.agents_cgroup(),
            pins: self.pins(),
            dir: self.dir.path().to_owned(),
        }
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().expect("no panic while locked")
    }
}

/// A read that policy allows and the stand-in answers.
pub const INSTANCES_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances";

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.daemon_log());
        }
        drop(self.daemon().take());
        let _ = self.stop_launcher();
        self.remnants().remove();
    }
}

/// A daemon, and what outlives it by design: sessions and pins. A world's end with it.
#[derive(Clone, Debug)]
pub struct Remnants {
    daemon: Option<u32>,
    agents: PathBuf,
    pins: PathBuf,
    dir: PathBuf,
}

impl Leftovers for Remnants {
    /// Ends the sessions, detaches the programs, deletes the files.
    fn remove(self) {
        if let Some(pid) = self.daemon {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = fs::write(self.agents.join("cgroup.kill"), "1");
        let _ = remove_cgroup(&self.agents);
        let _ = fs::remove_dir_all(&self.pins);
        let _ = fs::remove_dir_all(&self.dir);
        self.remove_private_tmp();
    }
}

impl Remnants {
    /// What sessions leave that nobody ends properly.
    fn remove_private_tmp(&self) {
        let name = self.agents.file_name().unwrap_or_default();
        let prefix = format!("{}-s-", name.display());
        for entry in ["/tmp", "/var/tmp"]
            .into_iter()
            .flat_map(fs::read_dir)
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn remove_cgroup(cgroup: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        for child in fs::read_dir(cgroup)?.flatten() {
            if child.file_type()?.is_dir() {
                let _ = fs::write(child.path().join("cgroup.kill"), "1");
                let _ = fs::remove_dir(child.path());
            }
        }
        match fs::remove_dir(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() > Duration::from_secs(5) => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
