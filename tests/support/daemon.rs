//! A `holdpoint daemon` of our own: started, watched, stopped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, logging what `filter` (`HOLDPOINT_LOG`) lets through, and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or stays silent; with the end of its log.
    pub fn start(binary: &Path, config: &Path, log: &Path, filter: &str) -> anyhow::Result<Self> {
        let before = fs::metadata(log).map_or(0, |log| log.len());
        let stderr = File::options().create(true).append(true).open(log)?;
        let child = Command::new(binary)
            .args(["daemon", "--config"])
            .arg(config)
            .env("HOLDPOINT_LOG", filter)
            .stdin(Stdio::null())
            .stdout(stderr.try_clone()?)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut daemon = Self {
            child,
            log: log.to_owned(),
        };
        daemon.wait_until_ready(before)?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, before: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        let skip = usize::try_from(before)?;
        while started.elapsed() < START_LIMIT {
            let text = fs::read(&self.log)?;
            let fresh = String::from_utf8_lossy(text.get(skip..).unwrap_or_default()).into_owned();
            if fresh
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| word == "ready")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended at once ({status}):\n{fresh}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "the daemon was not ready after {START_LIMIT:?}:\n{}",
            self.log_tail()
        )
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it has ended, if it does so by itself in this time.
    pub fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let asked = Instant::now();
        loop {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || asked.elapsed() > limit {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`; returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the wait for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the daemon did not end on SIGTERM:\n{}", self.log_tail())
    }

    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
