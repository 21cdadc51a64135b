//! A daemon of the tests' own, and clients of it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use holdpoint::{
    launch::{
        Launcher, Limits, Listeners, Network, RunListener, RunRequest, Running, Sandbox, Site,
        enable_controllers, end_leftovers, find,
        launcher::{self, Term},
    },
    session::SessionId,
};

/// The user `nobody`.
pub const UID: u32 = 65534;
/// A token the tests' daemon takes.
pub const TOKEN: &str = "header.payload.signature";

/// A directory, a cgroup and a daemon.
pub struct World {
    dir: tempfile::TempDir,
    agents_cgroup: PathBuf,
    missing_controllers: Vec<&'static str>,
    daemon: Mutex<Child>,
}

impl World {
    /// With everything in place.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("hp-launch-")
            .tempdir_in("/tmp")
            .expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::copy("/proc/self/exe", dir.path().join("launch")).expect("a copy that nobody may read");
        fs::create_dir(dir.path().join("run")).expect("a runtime directory");
        fs::write(dir.path().join("bundle.pem"), "the session's CA bundle\n").expect("a bundle");
        fs::create_dir(dir.path().join("shared")).expect("a directory");
        fs::write(dir.path().join("shared/file"), "shared\n").expect("a file");
        let work = dir.path().join("work");
        fs::create_dir(&work).expect("a directory");
        std::os::unix::fs::chown(&work, Some(UID), Some(UID)).expect("to be given away");
        let agents_cgroup = agents_cgroup(dir.path());
        fs::create_dir(&agents_cgroup).expect("a cgroup");
        let missing_controllers = enable_controllers(&agents_cgroup);
        let daemon = Mutex::new(spawn_daemon(dir.path()));
        Self {
            dir,
            agents_cgroup,
            missing_controllers,
            daemon,
        }
    }

    /// The directory of it all.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Those that cgroup2 does not have here.
    pub fn missing_controllers(&self) -> &[&'static str] {
        &self.missing_controllers
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.lock().expect("no panic while locked").id()
    }

    /// Kills the daemon as no handler can see.
    pub fn kill_daemon(&self) {
        let mut daemon = self.daemon.lock().expect("no panic while locked");
        daemon.kill().expect("kills");
        daemon.wait().expect("waits");
    }

    /// Starts it again.
    pub fn restart_daemon(&self) {
        *self.daemon.lock().expect("no panic while locked") = spawn_daemon(self.dir());
    }

    /// The sessions there are, by their cgroups.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.agents_cgroup).expect("reads");
        entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir())
            .collect()
    }

    /// How many of them could be adopted.
    pub fn doors(&self) -> usize {
        fs::read_dir(self.dir().join("run/sessions")).map_or(0, Iterator::count)
    }

    /// Waits until there is none, and nothing left of any.
    pub fn all_ended(&self) {
        eventually("all sessions have ended", || {
            self.sessions().is_empty() && self.doors() == 0
        });
    }

    /// `holdpoint run -- COMMAND...` as nobody, in `work`, with pipes.
    pub fn client(&self, command: &[&str]) -> Command {
        let mut client = self.client_as_root(command);
        client.uid(UID).gid(UID);
        client
    }

    /// The same as root.
    pub fn client_as_root(&self, command: &[&str]) -> Command {
        let mut client = Command::new(self.dir().join("launch"));
        client
            .args(["client", "--socket"])
            .arg(self.socket())
            .arg("--")
            .args(command)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("HOLDPOINT_TOKEN", TOKEN)])
            .current_dir(self.dir().join("work"))
            .stdin(Stdio::null());
        client
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("run/run.sock")
    }

    /// Runs a shell script in a session.
    pub fn sh(&self, script: &str) -> Output {
        self.client(&["sh", "-c", script]).output().expect("runs")
    }

    /// What a shell script prints in a session, which must succeed.
    pub fn says(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What a probe prints in a session.
    pub fn probe(&self, name: &str) -> Output {
        let program = self.dir().join("launch");
        self.client(&[program.to_str().expect("UTF-8"), "probe", name])
            .output()
            .expect("runs")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_daemon();
        end_leftovers(&self.agents_cgroup).expect("ends what is left");
        fs::remove_dir(&self.agents_cgroup).expect("is empty");
        eventually("no session's socket is left", || self.doors() == 0);
    }
}

/// The credentials of a socket's peer are those it connected with.
pub fn connect_as_nobody(path: &Path) -> std::io::Result<UnixStream> {
    let path = path.to_owned();
    std::thread::spawn(move || {
        // SAFETY: takes no memory. The bare system call changes this thread only, which ends here.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, UID, UID, UID) };
        assert_eq!(changed, 0);
        UnixStream::connect(path)
    })
    .join()
    .expect("no panic")
}

/// Waits for something, 10 seconds at most.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn agents_cgroup(dir: &Path) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("reads");
    let root = mounts
        .lines()
        .find(|line| line.starts_with("cgroup2 "))
        .expect("cgroup2 is mounted");
    let root = root.split(' ').nth(1).expect("a mount point");
    Path::new(root).join(dir.file_name().expect("a name"))
}

fn spawn_daemon(dir: &Path) -> Child {
    let mut daemon = Command::new(dir.join("launch"))
        .arg("daemon")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let mut line = String::new();
    let stdout = daemon.stdout.take().expect("is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the daemon is ready");
    assert_eq!(line, "ready\n");
    daemon
}

/// Lets everybody in who has a token.
pub fn daemon(dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let agents_cgroup = agents_cgroup(dir);
        let runtime_dir = dir.join("run");
        let launcher = Launcher::find_or_start(&runtime_dir, &agents_cgroup, false).await;
        let launcher = launcher.expect("a launcher");
        let site: &Site = Box::leak(Box::new(Site {
            agents_cgroup,
            ca_bundle: dir.join("bundle.pem"),
            launcher: launcher.socket().to_owned(),
            runtime_dir,
            project: Some("test-project".into()),
            containers: false,
            sandbox: Sandbox {
                shared: vec![dir.join("shared")],
                sockets: vec![dir.join("allowed.sock")],
                limits: Limits {
                    processes: 64,
                    memory: Some(256 << 20),
                },
                ..Sandbox::default()
            },
        }));
        let listener = RunListener::bind(&dir.join("run/run.sock")).expect("listens");
        for found in find(site).await.expect("looks for sessions") {
            assert_eq!(found.state, STATE);
            // It may be on its way out.
            if let Ok(listeners) = found.listen().await {
                tokio::spawn(live(listeners, found.into_running()));
            }
        }
        println!("ready");
        loop {
            let request = listener.accept().await.expect("accepts");
            tokio::spawn(session(request, site));
        }
    })
}

/// What a daemon leaves for the next one.
const STATE: &str = "what the \"daemon\" wants to know";

/// `launcher --temporary CGROUP`.
pub fn launcher(arguments: &[String]) -> ExitCode {
    launcher::run("".as_ref(), (&arguments[3]).into(), Term::Temporary).expect("serves");
    ExitCode::SUCCESS
}

async fn session(request: RunRequest, site: &Site) {
    if request
        .token
        .as_ref()
        .is_none_or(|token| token.as_str() != TOKEN)
    {
        return request.refuse("the token is not valid").await;
    }
    let mut prepared = match request
        .prepare(&SessionId::random(), site, Network::Own)
        .await
    {
        Ok(prepared) => prepared,
        Err((request, error)) => return request.refuse(&format!("{error:#}")).await,
    };
    let listeners = std::mem::take(&mut prepared.listeners);
    if let Ok(running) = prepared.start(STATE.into()).await {
        live(listeners, running).await;
    }
}

async fn live(listeners: Listeners, mut running: Running) {
    let answering = tokio::spawn(async move {
        loop {
            let (stream, _) = listeners.proxy[0].accept().await.expect("accepts");
            stream.writable().await.expect("is writable");
            stream.try_write(b"the proxy\n").expect("writes");
        }
    });
    running.ended().await;
    answering.abort();
}
