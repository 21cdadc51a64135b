//! `cargo xtask demo`: the main job, once, for everyone to see. It exits 0 only if all of it was seen.

mod client;
mod database;
mod evidence;
mod psql;
mod story;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use client::Client;
use holdpoint_tests::{
    host,
    interrupts::Interrupts,
    reviewer::{Approval, events, session_id, sessions},
    sandbox::{Ran, Running},
    stand_in::Arrival,
    world::World,
};

const LIST: &str = "/sql/v1beta4/projects/lab-project/instances";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";
/// As long as anybody may think about the question; longer than the shipped policies hold a request.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Runs the main job once: real clients in a sandbox on this kernel, a stand-in for Google, a PostgreSQL.
#[derive(Parser)]
struct Args {
    /// Approve without asking.
    #[arg(long)]
    yes: bool,
    /// Leave upstream.jsonl, approvals.json, links.json, session.json and database.json in this directory.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("\ndemo: {error:#}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    host::require()?;
    let client = Client::choose()?;
    let interrupts = Interrupts::block()?;
    let server = database::Server::start()?;
    let world = World::with(&server.settings())?;
    interrupts.clean_up((world.remnants(), server.remnants()));
    let mut demo = Demo {
        world: &world,
        client,
        told: 0,
    };
    demo.scene()?;
    demo.allowed_read()?;
    let session = demo.held_delete(args.yes)?;
    demo.denied_call()?;
    demo.credential_stays_outside()?;
    demo.record(&session)?;
    let in_database = match &server {
        database::Server::Running(postgres) => Some(demo.database(postgres, args.yes)?),
        database::Server::Missing(why) => {
            story::chapter("7. A database: left out");
            story::tell(why);
            None
        }
    };
    story::chapter(match in_database {
        Some(_) => "All of it was seen",
        None => "All but the database was seen",
    });
    if let Some(dir) = &args.evidence {
        evidence::leave(&world, &session, in_database.as_deref(), dir)?;
        story::tell(format!("The evidence is in {}", dir.display()));
    }
    Ok(())
}

struct Demo<'w> {
    world: &'w World,
    client: Client,
    /// How many of Google's arrivals have been told.
    told: usize,
}

impl Demo<'_> {
    fn scene(&self) -> anyhow::Result<()> {
        story::chapter("1. An agent in a sandbox, and no real cloud");
        story::tell(
            "The agent is user `nobody`; each of its commands runs by `holdpoint run` with CI's OIDC token, in",
        );
        story::tell("a network namespace with nothing in it but loopback.");
        let links = evidence::links(self.world)?;
        let links = links.as_array().map_or(0, Vec::len);
        story::tell(format!(
            "{links} BPF links in the kernel lead each connection to `holdpoint daemon`, pid {}.",
            self.world.daemon_pid()
        ));
        story::tell(format!(
            "Google is a stand-in at {}; the daemon has the only key for it.",
            self.world.google.address
        ));
        if self.client == Client::Curl {
            story::tell("gcloud is not installed, so curl does its part.");
        }
        Ok(())
    }

    fn allowed_read(&mut self) -> anyhow::Result<()> {
        story::chapter("2. A read: policy allows it");
        let ran = self.runs(&self.client.list());
        story::output(&ran);
        self.tell_arrivals();
        ensure!(
            ran.status.success() && ran.stdout.contains("prod-db"),
            "the read failed"
        );
        ensure!(
            self.world.count("GET", LIST) == 1,
            "the read did not reach Google once"
        );
        Ok(())
    }

    /// Returns the id of the session that asked.
    fn held_delete(&mut self, yes: bool) -> anyhow::Result<String> {
        story::chapter("3. A delete: policy holds it for a reviewer");
        let mut running = self.starts(&self.client.delete());
        let Ok(hold) = self
            .world
            .find_hold("sql.instances.delete", Duration::from_secs(30))
        else {
            drop(running);
            bail!("nothing was held:\n{}", self.world.daemon_log());
        };
        story::tell("... and waits.");
        self.tell_arrivals();
        self.reviewer(&["approvals", "show", hold.id()])?;
        let approved = self.answer(&hold, &mut running, yes)?;
        let ran = running.finish();
        story::output(&ran);
        self.tell_arrivals();
        ensure!(
            approved,
            "you denied it, and nothing was deleted; say y to see the rest"
        );
        ensure!(ran.status.success(), "the approved delete failed");
        let delete = self.only_delete()?;
        let decided_at = self.decided_at(&hold)?;
        ensure!(
            delete.t >= decided_at,
            "the DELETE left before the approval"
        );
        story::tell(format!(
            "The DELETE reached Google once, {} ms after the approval.",
            delete.t - decided_at
        ));
        let session = hold
            .session()
            .context("the approval does not tell its session")?;
        Ok(session.to_owned())
    }

    /// Approves, or denies if that is what the person at the terminal wants.
    fn answer(&self, hold: &Approval, running: &mut Running, yes: bool) -> anyhow::Result<bool> {
        let approved = if yes {
            // As long as the shortest of looks, so that the order of things can be told from their times.
            std::thread::sleep(Duration::from_secs(2));
            true
        } else {
            story::ask("You are the reviewer. Approve it?")?
        };
        ensure!(running.is_running(), "the client did not wait");
        ensure!(
            self.world.count("DELETE", PROD_DB) == 0,
            "the DELETE left before the approval"
        );
        let (verb, comment) = match approved {
            true => ("approve", "prod-db is retired, see OPS-7"),
            false => ("deny", "not today"),
        };
        self.reviewer(&["approvals", verb, hold.id(), "--comment", comment])?;
        Ok(approved)
    }

    fn only_delete(&self) -> anyhow::Result<Arrival> {
        let mut deletes = self.world.arrivals();
        deletes.retain(|it| it.asks("DELETE", PROD_DB));
        ensure!(
            deletes.len() == 1,
            "the DELETE reached Google {} times, not once",
            deletes.len()
        );
        Ok(deletes.remove(0))
    }

    fn decided_at(&self, hold: &Approval) -> anyhow::Result<u64> {
        let all = self.world.approvals()?;
        let decided = all
            .iter()
            .find(|it| it.id() == hold.id())
            .and_then(Approval::decided_at);
        decided.context("`holdpoint approvals list` does not tell when it was decided")
    }

    fn denied_call(&mut self) -> anyhow::Result<()> {
        story::chapter("4. A firewall open to the whole internet: policy denies it");
        let ran = self.runs(&self.client.open_firewall());
        story::output(&ran);
        self.tell_arrivals();
        ensure!(!ran.status.success(), "it was not denied");
        ensure!(
            ran.says("Holdpoint denied this: compute.firewalls.insert"),
            "the client did not print our message"
        );
        ensure!(
            self.world.count("POST", FIREWALLS) == 0,
            "it reached Google"
        );
        Ok(())
    }

    fn credential_stays_outside(&mut self) -> anyhow::Result<()> {
        story::chapter("5. The credential stays outside");
        let ran = self.runs(&self.client.token());
        story::output(&ran);
        ensure!(
            ran.status.success(),
            "the sandbox's metadata server does not answer"
        );
        let real = self.world.google.token();
        ensure!(!ran.says(real), "the real token is inside the sandbox");
        let arrivals = self.world.arrivals();
        let bearer = format!("Bearer {real}");
        ensure!(
            arrivals
                .iter()
                .all(|it| it.authorization.as_deref() == Some(&bearer)),
            "a request reached Google without the real credential"
        );
        story::tell(format!(
            "A placeholder, worthless anywhere else. All {} requests reached Google with the real one, {}...",
            arrivals.len(),
            &real[..12.min(real.len())]
        ));
        Ok(())
    }

    fn record(&self, session: &str) -> anyhow::Result<()> {
        story::chapter("6. The record");
        self.shows("auditor", &["sessions", "list"])?;
        let known = sessions(self.world)?;
        ensure!(
            known.iter().any(|it| session_id(it) == session),
            "the session of the delete is not in the record"
        );
        ensure!(
            known.iter().any(|it| it["denied"].as_u64() > Some(0)),
            "the denied call is not in the record"
        );
        self.shows("auditor", &["sessions", "show", session])?;
        let events = events(self.world, session)?;
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

    fn runs(&self, command: &[String]) -> Ran {
        self.starts(command).finish()
    }

    fn starts(&self, command: &[String]) -> Running {
        story::types("agent", command.join(" "));
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.world.sandbox().limit(PATIENCE).start(&command)
    }

    fn reviewer(&self, args: &[&str]) -> anyhow::Result<()> {
        self.shows("reviewer", args)
    }

    /// Runs `holdpoint ARGS` on the host.
    fn shows(&self, who: &str, args: &[&str]) -> anyhow::Result<()> {
        let quoted = args.iter().map(|arg| match arg.contains(' ') {
            true => format!("'{arg}'"),
            false => (*arg).to_owned(),
        });
        let command = quoted.collect::<Vec<_>>().join(" ");
        story::types(who, format!("holdpoint {command}"));
        let output = self.world.holdpoint(args).output()?;
        story::screen(who, &String::from_utf8_lossy(&output.stdout));
        ensure!(
            output.status.success(),
            "holdpoint {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// What has reached Google since the last time.
    fn tell_arrivals(&mut self) {
        let arrivals = self.world.arrivals();
        for it in &arrivals[self.told..] {
            story::sees(
                "Google",
                format!("{} https://{}{}", it.method, it.host, it.path),
            );
        }
        if arrivals.len() == self.told {
            story::sees("Google", "(nothing arrived)");
        }
        self.told = arrivals.len();
    }
}
