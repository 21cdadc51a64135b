//! Commands inside a session, run the way an agent's harness runs them: an unprivileged user calls `holdpoint run`.

use std::{
    ffi::OsString,
    fmt, fs,
    io::Read,
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{files, world::World};

/// `nobody`: in every system's user database, without rights anywhere.
pub const AGENT_UID: u32 = 65534;
/// `nogroup`.
pub const AGENT_GID: u32 = 65534;
/// How long a command may take, where a test does not say.
const LIMIT: Duration = Duration::from_secs(120);

/// What an agent finds programs in, as after a fresh login.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An agent: a user with a home, who opens a session for each command.
#[derive(Clone, Debug)]
pub struct Sandbox<'w> {
    world: &'w World,
    home: PathBuf,
    uid: u32,
    token: Option<String>,
    service: Option<String>,
    environment: Vec<(OsString, OsString)>,
    limit: Duration,
}

impl<'w> Sandbox<'w> {
    /// In `world`, with an empty home.
    pub(crate) fn new(world: &'w World) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = world.dir().join(format!("home-{count}"));
        fs::create_dir(&home).expect("a home can be made");
        chown(&home, Some(AGENT_UID), Some(AGENT_GID)).expect("root may give files away");
        Self {
            world,
            home,
            uid: AGENT_UID,
            token: Some(world.issuer.token()),
            service: None,
            environment: Vec::new(),
            limit: LIMIT,
        }
    }

    /// With another token, or none.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// As a service, without a token.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        self.token = None;
        self.service = Some(name.to_owned());
        self
    }

    /// As another user.
    ///
    /// # Panics
    /// When its home cannot be given away.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        chown(&self.home, Some(uid), None).expect("root may give files away");
        self.uid = uid;
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With another limit on how long a command may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its home, and where its commands start.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Puts a file into its home.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.join(name);
        fs::write(&path, content).expect("the home can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        chown(&path, Some(self.uid), None).expect("root may give files away");
        path
    }

    /// Puts a program of this package's into its home.
    ///
    /// # Panics
    /// When it was not built, or its path is not plain.
    #[must_use]
    pub fn program(&self, name: &str) -> String {
        let place = self.home.join(name);
        if !place.exists() {
            let built = files::built(name).expect("cargo builds it with the tests");
            files::install(&built, &place).expect("it can be copied");
        }
        place.into_os_string().into_string().expect("a plain path")
    }

    /// `holdpoint run ... -- COMMAND`, not yet started.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> Command {
        let mut run = Command::new(self.world.binary());
        run.arg("run").arg("--config").arg(self.world.config());
        if let Some(token) = &self.token {
            run.arg("--token-file").arg(self.token_file(token));
        }
        if let Some(service) = &self.service {
            run.arg("--service").arg(service);
        }
        run.arg("--").args(command);
        run.env_clear()
            .env("PATH", PATH)
            .env("HOME", &self.home)
            .env("USER", "nobody")
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home)
            .uid(self.uid)
            .gid(AGENT_GID)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run
    }

    fn token_file(&self, token: &str) -> PathBuf {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.world.dir().join(format!("token-{count}"));
        let mut options = fs::File::options();
        let file = options.create_new(true).write(true).mode(0o600).open(&path);
        file.expect("a token file");
        fs::write(&path, token).expect("a token file");
        chown(&path, Some(self.uid), None).expect("root may give files away");
        path
    }

    /// Starts a command in a session of its own.
    ///
    /// # Panics
    /// When `holdpoint run` cannot be started.
    #[must_use]
    pub fn start(&self, command: &[&str]) -> Running {
        let child = self.command(command).spawn().expect("holdpoint run starts");
        Running::new(child, command.join(" "), self.limit)
    }

    /// Runs a command in a session of its own, to its end.
    ///
    /// # Panics
    /// When it cannot be started, or takes too long.
    #[must_use]
    pub fn run(&self, command: &[&str]) -> Ran {
        self.start(command).finish()
    }

    /// Runs a Python program from `tests/clients`.
    ///
    /// # Panics
    /// As [`Self::run`] does.
    #[must_use]
    pub fn python(&self, client: &str, args: &[&str]) -> Ran {
        self.start_python(client, args).finish()
    }

    /// Starts a Python program from `tests/clients`.
    ///
    /// # Panics
    /// As [`Self::start`] does.
    #[must_use]
    pub fn start_python(&self, client: &str, args: &[&str]) -> Running {
        let source = files::repository().join("tests/clients").join(client);
        let text =
            fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let copy = self.file(client, text);
        let mut command = vec!["/usr/bin/python3", copy.to_str().expect("a plain path")];
        command.extend_from_slice(args);
        self.start(&command)
    }
}

/// A command under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    started: Instant,
    limit: Duration,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn new(mut child: Child, name: String, limit: Duration) -> Self {
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            name,
            started: Instant::now(),
            limit,
            stdout,
            stderr,
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process id of `holdpoint run`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to `holdpoint run`.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("holdpoint run is still there");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    #[must_use]
    pub fn finish(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break Some(status);
            }
            if self.started.elapsed() > self.limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let took = self.started.elapsed();
        let Some(status) = status else {
            let _ = self.child.kill();
            panic!("`{}` still ran after {took:?}", self.name);
        };
        let text = |reader: Option<JoinHandle<String>>| {
            reader.map_or_else(String::new, |it| it.join().expect("readers do not panic"))
        };
        Ran {
            name: std::mem::take(&mut self.name),
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Fails unless the command succeeded.
    ///
    /// # Panics
    /// Then.
    #[must_use]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Fails unless the command failed.
    ///
    /// # Panics
    /// Then.
    #[must_use]
    pub fn failed(self) -> Self {
        assert!(!self.status.success(), "should have failed: {self}");
        self
    }

    /// Whether it was printed, on either stream.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            status,
            stdout,
            stderr,
            took,
        } = self;
        write!(
            f,
            "`{name}` ended with {status} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
