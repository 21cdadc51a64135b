//! pgbench, and what it prints.

use std::{fmt, process::Command};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use holdpoint_tests::postgres::{Postgres, Role};

/// Times 100,000 accounts.
const SCALE: &str = "5";

/// How it talks to the server (`--protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Simple,
    Extended,
    Prepared,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        })
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub mode: Mode,
    pub clients: usize,
    pub seconds: u64,
}

impl Run {
    /// What follows `pgbench`.
    pub fn arguments(self) -> Vec<String> {
        let threads = self.clients.min(2);
        format!(
            "-n -S -M {} -c {} -j {threads} -T {}",
            self.mode, self.clients, self.seconds
        )
        .split(' ')
        .map(str::to_owned)
        .collect()
    }
}

/// What came of one.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub per_second: f64,
    pub queries: u64,
    /// Of the process in between, where there is one: user and system, us for each query.
    pub cpu_us: Option<f64>,
}

/// Makes the tables.
pub fn initialise(postgres: &Postgres) -> anyhow::Result<()> {
    let output = postgres
        .client("pgbench", Role::App)
        .args(["-i", "-q", "-s", SCALE])
        .output()?;
    ensure!(
        output.status.success(),
        "pgbench -i: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Runs it to its end.
pub fn run(mut command: Command) -> anyhow::Result<Measured> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&text).with_context(|| format!("pgbench printed something else: {text}"))
}

fn parse(text: &str) -> Option<Measured> {
    let after = |start: &str| {
        let mut lines = text.lines();
        let rest = lines.find_map(|line| line.strip_prefix(start))?;
        rest.split([' ', '/']).next()
    };
    Some(Measured {
        per_second: after("tps = ")?.parse().ok()?,
        queries: after("number of transactions actually processed: ")?
            .parse()
            .ok()?,
        cpu_us: None,
    })
}
