//! The ways to the database.

use std::{fmt, fs, process::Command};

use anyhow::Context as _;
use clap::ValueEnum;
use holdpoint_tests::{
    postgres::{AGENT_PORT, DATABASE, HOST, Postgres, Role},
    world::World,
};

use crate::{
    pgbench::{self, Measured, Run},
    pgbouncer::PgBouncer,
};

/// Who is in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// Nobody.
    Direct,
    /// pgbouncer in session mode.
    Pgbouncer,
    /// Holdpoint, around a sandbox.
    Holdpoint,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Pgbouncer => "pgbouncer",
            Self::Holdpoint => "holdpoint",
        })
    }
}

/// Everything that runs. TLS and SCRAM everywhere.
pub struct Bench {
    pub postgres: Postgres,
    pub pgbouncer: Option<PgBouncer>,
    pub world: World,
}

impl Bench {
    pub fn measure(&self, who: Contender, run: Run) -> anyhow::Result<Measured> {
        match (who, &self.pgbouncer) {
            (Contender::Direct, _) => pgbench::run(self.outside(run)),
            (Contender::Pgbouncer, Some(pgbouncer)) => {
                let mut command = self.outside(run);
                command.env("PGPORT", pgbouncer.port().to_string());
                with_cpu(pgbouncer.pid(), command)
            }
            (Contender::Pgbouncer, None) => anyhow::bail!("pgbouncer was not started"),
            (Contender::Holdpoint, _) => with_cpu(self.world.daemon_pid(), self.inside(run)),
        }
    }

    fn outside(&self, run: Run) -> Command {
        let mut command = Command::new(self.postgres.program("pgbench"));
        command
            .args(run.arguments())
            .envs(self.postgres.environment(Role::App));
        command
    }

    fn inside(&self, run: Run) -> Command {
        let program = self.postgres.program("pgbench").display().to_string();
        let arguments = run.arguments();
        let mut command = vec![program.as_str()];
        command.extend(arguments.iter().map(String::as_str));
        self.world
            .sandbox()
            .env("PGHOST", HOST)
            .env("PGPORT", AGENT_PORT.to_string())
            .env("PGDATABASE", DATABASE)
            .env("PGUSER", "whoever")
            .env("PGSSLMODE", "require")
            .command(&command)
    }
}

fn with_cpu(pid: u32, command: Command) -> anyhow::Result<Measured> {
    let before = cpu_us(pid)?;
    let measured = pgbench::run(command)?;
    let spent = cpu_us(pid)? - before;
    #[expect(clippy::cast_precision_loss, reason = "a run is not that long")]
    let cpu_us = Some(spent as f64 / measured.queries.max(1) as f64);
    Ok(Measured { cpu_us, ..measured })
}

/// User and system time of a process: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms (proc_pid_stat(5)).
fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    const TICK_US: u64 = 10_000;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || times.next().context("/proc/PID/stat");
    Ok((next()?? + next()??) * TICK_US)
}
