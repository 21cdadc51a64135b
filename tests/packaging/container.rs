//! A Debian with systemd as its process 1, made and booted in seconds, and forgotten afterwards; or this very host, which is one.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use holdpoint_tests::{files::repository, host};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Besides the essential packages: what the package depends on, and what the tests use.
const PACKAGES: &str = "--include=systemd,systemd-sysv,ca-certificates,curl,passwd,procps";
/// How long anything may take in a machine that is emulated, on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(120);
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Set where this host is nobody's, such as a virtual machine made for tests: they are run on it, one after the other.
const HERE: &str = "HOLDPOINT_TEST_HERE";

/// What this host's PID 1 would have done: systemd-nspawn(1) sees the host's cgroup2 hierarchy from its root (as BPF programs do; with a
/// cgroup namespace, levels would differ), whatever else is mounted here.
const BOOT: &str = r#"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
export SYSTEMD_NSPAWN_USE_CGNS=0
exec systemd-nspawn --quiet --boot --directory="$2" --volatile=overlay --machine="$1" --register=no --keep-unit \
    --console=pipe --capability=all --system-call-filter=bpf
"#;

/// nspawn shows all but its own cgroups read-only, and no bpffs.
const HOST_ITSELF: &str =
    "mount -o remount,bind,rw /sys/fs/cgroup && mount -t bpf -o mode=0700 bpf /sys/fs/bpf";

/// What tests leave on this host.
const CLEAN: &str = "
systemctl stop 'actions.runner.*' gitlab-runner worker
cd /etc/systemd/system && rm -rf actions.runner.* gitlab-runner.* worker.* holdpoint*.service.d
if dpkg --status holdpoint; then dpkg --purge holdpoint; fi
loginctl terminate-user agent
for user in agent reviewer runner gitlab-runner worker; do userdel --force --remove $user; done
rm -rf /etc/holdpoint /etc/gitlab-runner /usr/bin/gitlab-runner /usr/local/tools /srv/of-the-host
systemctl daemon-reload
systemctl reset-failed
";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A booted system. What it changes is in memory and gone with it. It has the host's network.
pub struct Container {
    /// Also what the parent of its sessions' cgroups is to be called: the hierarchy is the host's.
    pub name: String,
    /// None where it is this host.
    nspawn: Option<Nspawn>,
    leader: Pid,
}

struct Nspawn {
    child: Child,
    log: File,
}

impl Container {
    /// Boots one.
    ///
    /// # Panics
    /// When this host cannot, or it does not come up.
    pub fn boot() -> Self {
        if env::var_os(HERE).is_some() {
            return Self::here();
        }
        Self::try_boot().unwrap_or_else(|error| panic!("cannot boot a container: {error:#}"))
    }

    fn here() -> Self {
        let here = Self {
            name: "holdpoint-here".to_owned(),
            nspawn: None,
            leader: Pid::this(),
        };
        here.ok("systemctl is-system-running --wait");
        here
    }

    fn try_boot() -> anyhow::Result<Self> {
        host::require()?;
        host::require_program("systemd-nspawn", "systemd-container")?;
        let root = root_file_system()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("holdpoint-nspawn-{}-{count}", std::process::id());
        let log = tempfile::tempfile()?;
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-euc", BOOT, "sh", &name])
            .arg(root)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()?;
        let mut nspawn = Nspawn { child, log };
        let leader = nspawn.wait_for_init();
        let container = Self {
            name,
            nspawn: Some(nspawn),
            leader: *leader.as_ref().unwrap_or(&Pid::from_raw(0)),
        };
        leader?;
        let ran = container.run("systemctl is-system-running --wait");
        ensure!(ran.status.success(), "it is not running: {ran:?}");
        container.ok(HOST_ITSELF);
        Ok(container)
    }

    /// Whether the kernel's process numbers are others in it.
    pub fn has_own_process_numbers(&self) -> bool {
        self.nspawn.is_some()
    }

    /// Where a file of it is, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Puts a file into it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let target = self.path(path);
        let dir = target.parent().expect("a file in a directory");
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&target, content))
            .unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }

    /// A shell command in it, as root.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--all", "--target", &self.leader.to_string(), "--"])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
            ])
            .args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", script])
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell command in it, as root.
    pub fn run(&self, script: &str) -> Output {
        self.command(script).output().expect("nsenter can be run")
    }

    /// Runs a shell command in it that has to succeed; what it printed, trimmed.
    pub fn ok(&self, script: &str) -> String {
        let ran = self.run(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(
            ran.status.success(),
            "`{script}`: {}\n{}\n{}\n--- the journal\n{}",
            ran.status,
            text(&ran.stdout),
            text(&ran.stderr),
            text(
                &self
                    .run("journalctl --no-pager --unit=holdpoint --lines=60")
                    .stdout
            ),
        );
        text(&ran.stdout)
    }

    /// Waits until a shell command succeeds, at most `limit`.
    pub fn eventually(&self, script: &str, limit: Duration) {
        let started = Instant::now();
        while !self.run(script).status.success() {
            if started.elapsed() > limit {
                self.ok(script);
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Nspawn {
    fn wait_for_init(&mut self) -> anyhow::Result<Pid> {
        let started = Instant::now();
        let id = self.child.id();
        while started.elapsed() < BOOT_LIMIT {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            for pid in children.split_whitespace() {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let socket = format!("/proc/{pid}/root/run/systemd/private");
                if name == "systemd\n" && Path::new(&socket).exists() {
                    return Ok(Pid::from_raw(pid.parse()?));
                }
            }
            if let Some(status) = self.child.try_wait()? {
                let mut said = String::new();
                self.log.rewind()?;
                self.log.read_to_string(&mut said)?;
                anyhow::bail!("systemd-nspawn has ended: {status}\n{said}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("systemd was not up after {BOOT_LIMIT:?}")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(nspawn) = &mut self.nspawn else {
            self.run(CLEAN);
            return;
        };
        if self.leader.as_raw() > 0 {
            // With process 1 goes all that is in its PID namespace.
            let _ = kill(self.leader, Signal::SIGKILL);
        } else {
            let _ = nspawn.child.kill();
        }
        let _ = nspawn.child.wait();
        if let Ok(root) = host::cgroup2_root() {
            remove_cgroups(&root.join(&self.name));
            remove_cgroups(&root.join(format!("{}-agents", self.name)));
        }
    }
}

/// Depth first; what is killed takes a moment to be gone.
fn remove_cgroups(dir: &Path) {
    let _ = fs::write(dir.join("cgroup.kill"), "1");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    for _ in 0..100 {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

/// Of this host's own release, because the program under test is linked with this host's C library. Made once.
fn root_file_system() -> anyhow::Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no Debian release")?;
    let cache = repository().join("target/test-cache");
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("rootfs.lock"))?;
    let _alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let place = cache.join(format!("rootfs-{codename}"));
    if !place.exists() {
        host::require_program("mmdebstrap", "mmdebstrap")?;
        let next = cache.join("rootfs.new");
        let _ = fs::remove_dir_all(&next);
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", PACKAGES, codename])
            .arg(&next)
            .status()?;
        ensure!(status.success(), "mmdebstrap: {status}");
        fs::rename(&next, &place)?;
    }
    Ok(place)
}
