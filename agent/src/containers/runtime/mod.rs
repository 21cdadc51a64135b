//! Holdpoint's OCI runtime: what the engine starts containers of sessions by (`holdpoint oci-runtime`).
//!
//! It has the command line of runc (and crun, youki ...), asks the daemon whose the container is, writes the bundle's configuration anew,
//! and hands on to the real runtime. It runs as the engine does: as root, outside of all sessions, with one thread.

mod arguments;
mod bundle;
mod inside;
mod seccomp;
mod stage;

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use arguments::{Call, Invocation};
use inside::Inside;

use super::birth::{Answer, Birth, Kind, MOST_MESSAGE, Said};
use crate::config::Config;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what the engine asks for, as an OCI runtime.
#[must_use]
pub fn main(config: &Path, arguments: Vec<OsString>) -> ExitCode {
    // As for every runtime: what is made here is not for others, whatever the engine's mask.
    let invocation = match Invocation::parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => return failed(None, &error),
    };
    let log = invocation.log.clone();
    match run(config, invocation) {
        Ok(code) => code,
        Err(error) => failed(log.as_deref(), &error),
    }
}

/// Where engines look for what went wrong: the log, in runc's form; else what was printed.
fn failed(log: Option<&Path>, error: &anyhow::Error) -> ExitCode {
    let message = format!("holdpoint: {error:#}");
    eprintln!("{message}");
    if let Some(log) = log {
        let line = json!({ "level": "error", "msg": message }).to_string() + "\n";
        let file = fs::File::options().create(true).append(true).open(log);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
    ExitCode::FAILURE
}

fn run(config: &Path, invocation: Invocation) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    let runtime = &config
        .containers
        .as_ref()
        .context("the configuration has no [containers]")?
        .oci_runtime;
    match &invocation.call {
        Call::Create {
            bundle,
            pid_file,
            id,
        } => create(&config, runtime, &invocation, bundle, pid_file, id),
        Call::Exec { process, id } => {
            let (birth, mut daemon) = ask(&config, id, Kind::Command)?;
            let inside = Inside::open(&birth)?;
            bundle::rewrite_process(process, &birth)?;
            inside.join()?;
            daemon.confirm()?;
            // What it starts is in the session's cgroup from the beginning.
            Err(Command::new(runtime).args(invocation.arguments()).exec())
                .with_context(|| format!("cannot run {}", runtime.display()))
        }
        Call::Other => Err(Command::new(runtime).args(invocation.arguments()).exec())
            .with_context(|| format!("cannot run {}", runtime.display())),
    }
}

fn create(
    config: &Config,
    runtime: &Path,
    invocation: &Invocation,
    bundle: &Path,
    pid_file: &Path,
    id: &str,
) -> anyhow::Result<ExitCode> {
    let (birth, mut daemon) = ask(config, id, Kind::Container)?;
    let inside = Inside::open(&birth)?;
    let asked = bundle::read(bundle)?;
    let staged = stage::set(bundle, &birth, &inside)?;
    bundle::rewrite(bundle, asked, &birth, &inside, &staged, id)?;
    inside.join()?;
    daemon.confirm()?;
    let status = Command::new(runtime)
        .args(invocation.arguments())
        .status()
        .with_context(|| format!("cannot run {}", runtime.display()))?;
    if !status.success() {
        return Ok(ExitCode::from(
            status
                .code()
                .and_then(|it| u8::try_from(it).ok())
                .unwrap_or(1),
        ));
    }
    // The container waits to be started. Nothing of the image has run.
    if let Err(error) = check(pid_file, &inside) {
        let _ = Command::new(runtime).args(invocation.deletion(id)).status();
        return Err(error.context(format!("{} did not do what it was told", runtime.display())));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it is where it has to be. If not, it does not stay.
fn check(pid_file: &Path, inside: &Inside) -> anyhow::Result<()> {
    let pid: i32 = fs::read_to_string(pid_file)
        .context("it tells no process")?
        .trim()
        .parse()?;
    let checked = inside.holds(pid.cast_unsigned());
    if checked.is_err() && pid > 1 {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    checked
}

/// The daemon, which waits for this to be inside.
struct Daemon(BufReader<UnixStream>);

fn ask(config: &Config, id: &str, kind: Kind) -> anyhow::Result<(Birth, Daemon)> {
    let socket = config.containers_socket();
    let stream = UnixStream::connect(&socket).with_context(|| {
        format!("no container of a session starts without the daemon, and it is not to be reached at {}", socket.display())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut daemon = Daemon(BufReader::new(stream));
    let about = Said::About {
        container: id.to_owned(),
        kind,
    };
    match daemon.say(&about)? {
        Answer::Of(birth) => Ok((*birth, daemon)),
        Answer::No { reason } => anyhow::bail!(reason),
        Answer::Begin => anyhow::bail!("the daemon speaks out of turn"),
    }
}

impl Daemon {
    fn confirm(&mut self) -> anyhow::Result<()> {
        match self.say(&Said::Inside)? {
            Answer::Begin => Ok(()),
            Answer::No { reason } => anyhow::bail!(reason),
            Answer::Of(_) => anyhow::bail!("the daemon speaks out of turn"),
        }
    }

    fn say(&mut self, said: &Said) -> anyhow::Result<Answer> {
        let line = serde_json::to_string(said)? + "\n";
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .context("the daemon does not listen")?;
        let mut line = String::new();
        let mut limited = self.0.by_ref().take(MOST_MESSAGE);
        limited
            .read_line(&mut line)
            .context("the daemon does not answer")?;
        serde_json::from_str(&line).context("the daemon refuses, or is of another version")
    }
}
