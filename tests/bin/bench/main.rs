//! `cargo xtask bench`: what Holdpoint adds to a read, beside nothing and beside nginx, in one run.

mod nginx;
mod table;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use holdpoint_tests::{
    host,
    interrupts::Interrupts,
    program,
    world::{INSTANCES_URL, Settings, World},
};
use nginx::Nginx;
use serde::Deserialize;
use table::Row;

/// Measures direct, through nginx, and through Holdpoint, alternating.
#[derive(Parser)]
struct Args {
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often all of it is measured; the medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
}

/// What the load generator prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Measured {
    requests_per_second: f64,
    p50_us: u64,
    p99_us: u64,
}

fn main() -> ExitCode {
    program::end("bench", run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    host::require()?;
    host::require_program("nginx", "nginx")?;
    let interrupts = Interrupts::block()?;
    let world = World::with(&Settings::default().silent())?;
    interrupts.clean_up(world.remnants());
    let bench = Bench {
        nginx: Nginx::start(&world)?,
        generator: install_generator(&world)?,
        seconds: args.seconds,
        world,
    };
    let mut rows = Vec::new();
    for &connections in &args.connections {
        let mut measured: [Vec<Measured>; 3] = Default::default();
        for round in 0..args.rounds {
            eprintln!(
                "{connections} connections, round {} of {}",
                round + 1,
                args.rounds
            );
            measured[0].push(bench.direct(connections)?);
            measured[1].push(bench.through_nginx(connections)?);
            measured[2].push(bench.through_holdpoint(connections)?);
        }
        let [direct, nginx, holdpoint] = measured.map(|rounds| median(&rounds));
        rows.push(Row {
            connections,
            direct,
            nginx,
            holdpoint,
        });
    }
    table::print(&rows);
    Ok(())
}

struct Bench {
    nginx: Nginx,
    generator: PathBuf,
    seconds: u64,
    world: World,
}

impl Bench {
    fn direct(&self, connections: usize) -> anyhow::Result<Measured> {
        let google = &self.world.google;
        let mut command = self.outside(connections);
        command.args(["--connect", &google.address.to_string()]);
        measure(command)
    }

    fn through_nginx(&self, connections: usize) -> anyhow::Result<Measured> {
        let mut command = self.outside(connections);
        command.args(["--connect", &self.nginx.address().to_string()]);
        measure(command)
    }

    fn through_holdpoint(&self, connections: usize) -> anyhow::Result<Measured> {
        let generator = self.generator.to_str().context("a plain path")?;
        let (connections, seconds) = (connections.to_string(), self.seconds.to_string());
        let command = [
            generator,
            INSTANCES_URL,
            "--connections",
            &connections,
            "--seconds",
            &seconds,
        ];
        measure(self.world.sandbox().command(&command))
    }

    /// Without Holdpoint the client has to bring the credential itself.
    fn outside(&self, connections: usize) -> Command {
        let google = &self.world.google;
        let mut command = Command::new(&self.generator);
        command
            .arg(INSTANCES_URL)
            .arg("--ca-file")
            .arg(&google.ca_file)
            .args(["--authorization", &format!("Bearer {}", google.token())])
            .args(["--connections", &connections.to_string()])
            .args(["--seconds", &self.seconds.to_string()]);
        command
    }
}

fn measure(mut command: Command) -> anyhow::Result<Measured> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "the load generator failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the load generator printed something else")
}

/// By requests a second.
fn median(rounds: &[Measured]) -> Measured {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
    sorted[sorted.len() / 2]
}

/// Where every user can run it.
fn install_generator(world: &World) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?.with_file_name("load-generator");
    let place = world.dir().join("bin/load-generator");
    fs::copy(&own, &place)
        .with_context(|| format!("needs {}: cargo build first", own.display()))?;
    Ok(place)
}
