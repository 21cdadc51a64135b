//! The stage's own daemon: the same program, with files, pins and a cgroup of its own.

use std::{
    fs::{self, File},
    os::unix::{net::UnixDatagram, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use super::{
    issuer,
    outside::AUTHORITY,
    places::{CONFIG, FAR_V4, HAND_OVER, METADATA, PINS, PROGRAM, ROOT, RUNTIME, STATE},
};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// What is permitted on the stage: enough to see that something gets through.
const POLICY: &str = r#"@id("reads")
permit(principal, action in Action::"read", resource);
"#;

/// What the names of doctors' cgroups begin with; the process id follows.
const CGROUP: &str = "holdpoint-doctor-";

/// A running daemon.
pub struct Daemon {
    child: Child,
    agents: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it is ready. Unguarded, it goes on when a BPF program is taken away.
    ///
    /// # Errors
    /// When it does not get there; with the end of its log.
    pub fn start(cgroup2: &Path, guarded: bool) -> anyhow::Result<Self> {
        remove_remnants(cgroup2);
        let name = format!("{CGROUP}{}", std::process::id());
        let policies = Path::new(ROOT).join("policies");
        fs::create_dir(&policies)?;
        fs::write(policies.join("reads.cedar"), POLICY)?;
        fs::write(CONFIG, configuration(&name, &policies))?;
        fs::set_permissions(CONFIG, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;

        let notify = Path::new(ROOT).join("notify.sock");
        let ready = UnixDatagram::bind(&notify)?;
        ready.set_read_timeout(Some(Duration::from_millis(100)))?;
        let log = Path::new(ROOT).join("daemon.log");
        let output = File::create(&log)?;
        let child = with_us(Command::new(PROGRAM))
            .args(["daemon", "--config", CONFIG])
            .args((!guarded).then_some("--unguarded"))
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start a daemon of the doctor's own")?;
        let mut daemon = Self {
            child,
            agents: cgroup2.join(name),
            log,
        };
        daemon.wait_until_ready(&ready)?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, ready: &UnixDatagram) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut state = [0; 64];
        while started.elapsed() < START {
            if let Ok(length) = ready.recv(&mut state)
                && state[..length].starts_with(b"READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the doctor's own daemon ended ({status}):\n{}", self.log());
            }
        }
        bail!(
            "the doctor's own daemon was not ready after {START:?}:\n{}",
            self.log()
        )
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let start = log.len().saturating_sub(4000);
        String::from_utf8_lossy(&log[start..]).into_owned()
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let asked = Instant::now();
        let _ = kill(pid, Signal::SIGTERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > STOP {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        // Everything else is gone with the namespaces. Sessions a killed daemon left behind are ended first.
        if let Err(error) = crate::launch::end_leftovers(&self.agents)
            .and_then(|_| Ok(fs::remove_dir(&self.agents)?))
        {
            eprintln!(
                "holdpoint: the cgroup {} is left over: {error:#}",
                self.agents.display()
            );
        }
    }
}

/// Of doctors that were killed. What lived there died with them.
fn remove_remnants(cgroup2: &Path) {
    for entry in fs::read_dir(cgroup2).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_string_lossy()
            .strip_prefix(CGROUP)
            .map(str::to_owned);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = crate::launch::end_leftovers(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A command that is killed when the doctor dies.
pub fn with_us(mut command: Command) -> Command {
    // SAFETY: prctl(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    command
}

fn configuration(name: &str, policies: &Path) -> String {
    let (issuer, audience, policies) = (issuer::url(), issuer::AUDIENCE, policies.display());
    format!(
        r#"state_dir = "{STATE}"
runtime_dir = "{RUNTIME}"
bpf_dir = "{PINS}"
agents_cgroup = "{name}"
policies = "{policies}"

[[issuer]]
url = "{issuer}"
audience = "{audience}"

[google]
project = "doctor"
account = "doctor@doctor.iam.gserviceaccount.com"

[google.credential]
from = "metadata"
address = "{METADATA}:80"

# The accomplice's: what it hands over, the BPF programs have to stop.
[session]
sockets = ["{HAND_OVER}"]

[upstream]
ca_file = "{AUTHORITY}/ca.pem"

# Whatever the daemon lets through comes to the doctor, and to nobody else.
[upstream.addresses]
"*" = "{FAR_V4}:443"
"#
    )
}

#[cfg(test)]
mod tests {
    use holdpoint_core::{
        catalog::Catalog,
        policy::{Policies, Source},
    };

    use super::*;

    #[test]
    fn the_configuration_is_one() {
        let text = configuration("x", Path::new("/mnt/policies"));
        let config: crate::config::Config = toml::from_str(&text).expect("is valid");
        assert_eq!(config.issuers.len(), 1);
    }

    #[test]
    fn the_policy_is_one() {
        let source = Source {
            file: "reads.cedar".into(),
            text: POLICY.into(),
        };
        assert!(Policies::load(&[source], Catalog::built_in()).is_ok());
    }
}
