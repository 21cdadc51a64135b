//! A container engine of one test: dockerd with files of its own, which starts containers by Holdpoint's runtime.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;

use crate::{host, world::World};

/// The one image there is: directories, and links to a `/usr` that is mounted into it.
pub const IMAGE: &str = "empty:1";

const LIMIT: Duration = Duration::from_secs(60);

/// Where it will be, so that a world can be told of it.
#[derive(Debug)]
pub struct Place(TempDir);

impl Place {
    /// A place of its own.
    ///
    /// # Errors
    /// When there is no engine on this host, or no space.
    pub fn new() -> anyhow::Result<Self> {
        host::require_program("dockerd", "docker.io")?;
        host::require_program("docker", "docker.io")?;
        host::require_program("runc", "runc")?;
        let dir = tempfile::Builder::new()
            .prefix("engine-")
            .tempdir_in("/var/lib")?;
        // So that nothing but Holdpoint is between a session and the engine.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self(dir))
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.path().join("docker.sock")
    }

    /// The table of the configuration that names it.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!("\n[containers]\nengine = \"{}\"\n", self.socket().display())
    }

    /// Starts it for the sessions of a world.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(self, world: &World) -> anyhow::Result<Engine> {
        let dir = self.0.path();
        let runtime = dir.join("oci-runtime");
        let config = world.config();
        let script = format!(
            "#!/bin/sh\nexec {} oci-runtime --config {} -- \"$@\"\n",
            world.binary().display(),
            config.display()
        );
        fs::write(&runtime, script)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
        let settings = json!({
            "data-root": dir.join("data"), "exec-root": dir.join("exec"), "pidfile": dir.join("pid"),
            "hosts": [format!("unix://{}", self.socket().display())],
            "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false,
            "storage-driver": "vfs", "runtimes": { "holdpoint": { "path": runtime } },
        });
        let file = dir.join("daemon.json");
        fs::write(&file, settings.to_string())?;
        let log = File::create(dir.join("log"))?;
        let process = Command::new("dockerd")
            .arg("--config-file")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let engine = Engine {
            process,
            cgroup: world.agents_cgroup(),
            place: self,
        };
        engine.wait()?;
        // Whoever may read the directory may connect: what stands in the way is to be Holdpoint.
        fs::set_permissions(engine.place.socket(), fs::Permissions::from_mode(0o666))?;
        engine.import()?;
        Ok(engine)
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    process: Child,
    /// The world's.
    cgroup: PathBuf,
    place: Place,
}

impl Engine {
    /// `docker ARGS` on the host.
    ///
    /// # Panics
    /// When there is no docker.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("docker runs")
    }

    /// What that printed, when it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn says(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "docker {args:?}: {errors}\n{}",
            self.log()
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.socket()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.0.path().join("log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(args)
            .env("DOCKER_CONFIG", self.place.0.path())
            .stdin(Stdio::null());
        command
    }

    fn wait(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while UnixStream::connect(self.socket()).is_err()
            || !self.docker(&["version"]).status.success()
        {
            ensure!(
                started.elapsed() < LIMIT,
                "dockerd does not come up:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn import(&self) -> anyhow::Result<()> {
        let root = self.place.0.path().join("image");
        for directory in [
            "dev",
            "etc/ssl/certs",
            "proc",
            "run",
            "sys",
            "tmp",
            "usr",
            "work",
        ] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), "none\n")?;
        for directory in ["bin", "lib", "lib64", "sbin"] {
            std::os::unix::fs::symlink(Path::new("usr").join(directory), root.join(directory))?;
        }
        let tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .output()?;
        let mut import = self
            .command(&["import", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        import
            .stdin
            .take()
            .context("a pipe")?
            .write_all(&tar.stdout)?;
        ensure!(import.wait()?.success(), "docker import failed");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let list = self.docker(&["ps", "-aq", "--no-trunc"]);
        for container in String::from_utf8_lossy(&list.stdout).lines() {
            let _ = self.docker(&["rm", "-f", container]);
        }
        // It ends its containerd.
        let _ = kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        );
        let started = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if started.elapsed() > LIMIT {
                let _ = self.process.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.remove_cgroups();
    }
}

impl Engine {
    /// Where version 1 hierarchies are beside cgroup2, runc makes the same cgroups in those, and leaves the sessions'.
    fn remove_cgroups(&self) {
        let (Some(name), Some(own)) = (self.cgroup.file_name(), self.cgroup.parent()) else {
            return;
        };
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let agents = hierarchy.path().join(name);
            if hierarchy.path() != own && agents.is_dir() {
                for session in fs::read_dir(&agents).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(session.path());
                }
                let _ = fs::remove_dir(agents);
            }
        }
    }
}
