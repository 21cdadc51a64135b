//! The ways to the database.

use std::{fmt, process::Command};

use clap::ValueEnum;
use holdpoint_tests::{
    database,
    footprint::processor_time,
    postgres::{Postgres, Role},
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
        let mut command = self.postgres.client("pgbench", Role::App);
        command.args(run.arguments());
        command
    }

    fn inside(&self, run: Run) -> Command {
        let program = self.postgres.program("pgbench").display().to_string();
        let arguments = run.arguments();
        let mut command = vec![program.as_str()];
        command.extend(arguments.iter().map(String::as_str));
        database::agent(&self.world)
            .env("PGSSLMODE", "require")
            .command(&command)
    }
}

fn with_cpu(pid: u32, command: Command) -> anyhow::Result<Measured> {
    let before = processor_time(pid)?;
    let measured = pgbench::run(command)?;
    let spent = processor_time(pid)? - before;
    #[expect(clippy::cast_precision_loss, reason = "a run is not that long")]
    let queries = measured.queries.max(1) as f64;
    let cpu_us = Some(spent.as_secs_f64() * 1e6 / queries);
    Ok(Measured { cpu_us, ..measured })
}
