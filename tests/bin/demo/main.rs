//! `cargo xtask demo`: the main job, once, for everyone to see. It exits 0 only if all of it was seen.

mod evidence;
mod story;

use std::{
    io::{IsTerminal as _, stdin},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use holdpoint_tests::{
    host,
    reviewer::{Approval, events, session_id, sessions},
    stand_in::Arrival,
    world::{Settings, World},
};
use nix::sys::signal::{SigSet, Signal};

const LIST: &str = "/sql/v1beta4/projects/lab-project/instances";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";
const OPEN_FIREWALL: &str = r#"{"name":"fw1","sourceRanges":["0.0.0.0/0"],"allowed":[{"IPProtocol":"tcp","ports":["22"]}]}"#;
/// As long as anybody may think about the question; shorter than the shipped policies hold a request.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Runs the main job once: a real client in a sandbox on this kernel, a stand-in for Google.
#[derive(Parser)]
struct Args {
    /// Approve without asking.
    #[arg(long)]
    yes: bool,
    /// Leave upstream.jsonl, approvals.json, links.json and session.json in this directory.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("demo: {error:#}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    host::require()?;
    let client = Client::choose()?;
    if !args.yes {
        ensure!(
            stdin().is_terminal(),
            "asks for an approval on a terminal; without one, use --yes"
        );
    }
    let interrupts = block_interrupts()?;
    story::chapter("A daemon, a stand-in Google, an OIDC issuer");
    let world = World::with(&Settings::default())?;
    clean_up_on(interrupts, &world);
    story::tell(&format!(
        "holdpoint daemon --config {}",
        world.config().display()
    ));
    story::tell(&format!(
        "stand-in Google on {}, trusted by the daemon only",
        world.google.address
    ));
    story::tell("each command below runs as `nobody`, by `holdpoint run -- COMMAND`");

    allowed_read(&world, client)?;
    let session = held_delete(&world, client, args.yes)?;
    denied_call(&world, client)?;
    credential_never_inside(&world)?;
    told_by_the_record(&world, &session)?;
    if let Some(dir) = &args.evidence {
        evidence::leave(&world, &session, dir)?;
        story::tell(&format!("evidence is in {}", dir.display()));
    }
    story::chapter("All of it was seen");
    Ok(())
}

/// What the agent uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Gcloud,
    Curl,
}

impl Client {
    fn choose() -> anyhow::Result<Self> {
        if host::program("gcloud").is_some() {
            return Ok(Self::Gcloud);
        }
        let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
        ensure!(!in_ci, "needs gcloud in CI: install google-cloud-cli");
        host::require_program("curl", "curl")?;
        story::tell("gcloud is not installed: curl does its part");
        Ok(Self::Curl)
    }

    fn list(self) -> Vec<String> {
        match self {
            Self::Gcloud => words("gcloud sql instances list"),
            Self::Curl => curl(&["--fail"], "sqladmin", LIST),
        }
    }

    fn delete(self) -> Vec<String> {
        match self {
            Self::Gcloud => words("gcloud sql instances delete prod-db --quiet"),
            Self::Curl => curl(&["--fail-with-body", "-X", "DELETE"], "sqladmin", PROD_DB),
        }
    }

    fn open_firewall(self) -> Vec<String> {
        let json = "Content-Type: application/json";
        match self {
            Self::Gcloud => words(
                "gcloud compute firewall-rules create fw1 --allow tcp:22 --source-ranges 0.0.0.0/0",
            ),
            Self::Curl => curl(
                &["--fail-with-body", "-H", json, "-d", OPEN_FIREWALL],
                "compute",
                FIREWALLS,
            ),
        }
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn curl(options: &[&str], service: &str, path: &str) -> Vec<String> {
    let url = format!("https://{service}.googleapis.com{path}");
    let parts = ["curl", "-sS"].iter().chain(options).copied();
    parts.map(str::to_owned).chain([url]).collect()
}

fn borrowed(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn allowed_read(world: &World, client: Client) -> anyhow::Result<()> {
    story::chapter("A read, which policy allows");
    let command = client.list();
    story::command(&command);
    let ran = world.sandbox().run(&borrowed(&command));
    story::output(&ran);
    ensure!(
        ran.status.success() && ran.stdout.contains("prod-db"),
        "the read failed"
    );
    ensure!(
        world.count("GET", LIST) == 1,
        "the read did not reach Google once"
    );
    Ok(())
}

/// Returns the id of the session that asked.
fn held_delete(world: &World, client: Client, yes: bool) -> anyhow::Result<String> {
    story::chapter("A delete, which policy holds for a reviewer");
    let command = client.delete();
    story::command(&command);
    let mut running = world.sandbox().limit(PATIENCE).start(&borrowed(&command));
    let Ok(hold) = world.find_hold("sql.instances.delete", Duration::from_secs(30)) else {
        drop(running);
        bail!("nothing was held:\n{}", world.daemon_log());
    };
    story::tell("it waits. What the reviewer sees (`holdpoint approvals show`):");
    let shown = world
        .holdpoint(&["approvals", "show", hold.id()])
        .output()?;
    ensure!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    story::text(&String::from_utf8_lossy(&shown.stdout));
    if yes {
        std::thread::sleep(Duration::from_secs(2));
        story::tell("--yes: approved by itself");
    } else if !story::ask(&format!("Approve {} as {}?", hold.id(), "root"))? {
        world.deny(hold.id())?;
        story::output(&running.finish());
        bail!("you denied it, and nothing was deleted; say y to see the rest");
    }
    ensure!(
        running.is_running(),
        "the client gave up: {}",
        running.finish()
    );
    ensure!(
        world.count("DELETE", PROD_DB) == 0,
        "the DELETE left before the approval"
    );
    world.approve(hold.id())?;
    let ran = running.finish();
    story::output(&ran);
    ensure!(ran.status.success(), "the approved delete failed");
    let delete = only_delete(world)?;
    let decided_at = decided_at(world, &hold)?;
    ensure!(
        delete.t >= decided_at,
        "the DELETE left before the approval"
    );
    story::tell(&format!(
        "the DELETE reached Google once, {} ms after the approval",
        delete.t - decided_at
    ));
    let session = hold
        .session()
        .context("the approval does not tell its session")?;
    Ok(session.to_owned())
}

fn only_delete(world: &World) -> anyhow::Result<Arrival> {
    let mut deletes = world.arrivals();
    deletes.retain(|it| it.asks("DELETE", PROD_DB));
    ensure!(
        deletes.len() == 1,
        "the DELETE reached Google {} times, not once",
        deletes.len()
    );
    Ok(deletes.remove(0))
}

fn decided_at(world: &World, hold: &Approval) -> anyhow::Result<u64> {
    let all = world.approvals()?;
    let decided = all
        .iter()
        .find(|it| it.id() == hold.id())
        .and_then(Approval::decided_at);
    decided.context("`holdpoint approvals list` does not tell when it was decided")
}

fn denied_call(world: &World, client: Client) -> anyhow::Result<()> {
    story::chapter("A firewall open to the internet, which policy denies");
    let command = client.open_firewall();
    story::command(&command);
    let ran = world.sandbox().run(&borrowed(&command));
    story::output(&ran);
    ensure!(!ran.status.success(), "it was not denied");
    ensure!(
        ran.says("Holdpoint") || ran.says("holdpoint"),
        "the client did not print our message"
    );
    ensure!(world.count("POST", FIREWALLS) == 0, "it reached Google");
    Ok(())
}

fn credential_never_inside(world: &World) -> anyhow::Result<()> {
    let real = format!("Bearer {}", world.google.token());
    let arrivals = world.arrivals();
    let all_real = arrivals
        .iter()
        .all(|it| it.authorization.as_deref() == Some(&real));
    ensure!(
        all_real,
        "a request reached Google without the real credential"
    );
    let url = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    let ran = world.sandbox().run(&[
        "curl",
        "-sS",
        "--fail",
        "-H",
        "Metadata-Flavor: Google",
        url,
    ]);
    ensure!(
        ran.status.success(),
        "the sandbox's metadata server does not answer: {ran}"
    );
    ensure!(
        !ran.says(world.google.token()),
        "the real token is inside the sandbox"
    );
    story::tell("every request carried the real token; inside there was only a placeholder");
    Ok(())
}

fn told_by_the_record(world: &World, session: &str) -> anyhow::Result<()> {
    story::chapter("The record");
    let known = sessions(world)?;
    ensure!(
        known.iter().any(|it| session_id(it) == session),
        "the session is not in the record"
    );
    let shown = world.holdpoint(&["sessions", "show", session]).output()?;
    ensure!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    story::text(&String::from_utf8_lossy(&shown.stdout));
    let events = events(world, session)?;
    for kind in [
        "session_opened",
        "intent",
        "hold",
        "approval_decided",
        "outcome",
    ] {
        let told = events.iter().any(|event| event["event"] == kind);
        ensure!(told, "the record does not tell of `{kind}`");
    }
    Ok(())
}

/// From here on Ctrl-C and SIGTERM wait for [`clean_up_on`].
fn block_interrupts() -> anyhow::Result<SigSet> {
    let interrupts = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    interrupts.thread_block()?;
    Ok(interrupts)
}

/// Pins would outlive a demo that is broken off, and with them its BPF programs.
fn clean_up_on(interrupts: SigSet, world: &World) {
    let remnants = world.remnants();
    std::thread::spawn(move || {
        let _ = interrupts.wait();
        remnants.remove();
        std::process::exit(130);
    });
}
