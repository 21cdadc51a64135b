//! `cargo xtask bench postgres`: what Holdpoint costs a database's clients, beside nothing and beside pgbouncer, in one run.

mod contender;
mod pgbench;
mod pgbouncer;
mod table;

use std::process::ExitCode;

use clap::Parser;
use holdpoint_tests::{
    host,
    interrupts::Interrupts,
    postgres::{Options, Postgres},
    program,
    world::{Settings, World},
};

use contender::{Bench, Contender};
use pgbench::{Measured, Mode, Run};
use pgbouncer::PgBouncer;
use table::Row;

/// What most agents of a careful house are under: rules about statements, a mask, and the record.
const POLICIES: &str = r#"
@id("agents-use-databases") @mask("cards")
permit(principal, action in Action::"postgres.*", resource);
@id("no-deletes-without-where") @reason("it would touch every row")
forbid(principal, action in [Action::"postgres.delete", Action::"postgres.update"], resource)
when { context.traits.contains("without-where") };
@id("drops-are-held") @hold("database-team")
forbid(principal, action == Action::"postgres.drop_table", resource);
"#;
const MASK: &str = "[[mask]]\nname = \"cards\"\ncolumns = [\"public.customers.card\", \"public.customers.email\"]\n";

/// Measures pgbench -S direct, through pgbouncer, and through Holdpoint, alternating.
#[derive(Parser)]
struct Args {
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// How often all of it is measured; the medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    clients: Vec<usize>,
    /// pgbench's --protocol.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "simple,extended,prepared"
    )]
    modes: Vec<Mode>,
    /// Whom to measure; direct is what the others are compared with.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,pgbouncer,holdpoint"
    )]
    contenders: Vec<Contender>,
}

fn main() -> ExitCode {
    program::end("bench", run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    host::require()?;
    let interrupts = Interrupts::block()?;
    let postgres = Postgres::with(&Options {
        logs_statements: false,
        ..Options::default()
    })?;
    let settings = Settings::with_database(&postgres)
        .policies(POLICIES)
        .configuration(MASK)
        .silent();
    let world = World::with(&settings)?;
    interrupts.clean_up((world.remnants(), postgres.remnants()));
    pgbench::initialise(&postgres)?;
    let pgbouncer = match args.contenders.contains(&Contender::Pgbouncer) {
        true => Some(PgBouncer::start(&postgres)?),
        false => None,
    };
    let bench = Bench {
        postgres,
        pgbouncer,
        world,
    };
    let mut rows = Vec::new();
    for &mode in &args.modes {
        for &clients in &args.clients {
            let run = Run {
                mode,
                clients,
                seconds: args.seconds,
            };
            rows.push(measure(&bench, args, run)?);
        }
    }
    table::print(&rows);
    Ok(())
}

/// Short rounds, one contender after the other in each, so that whatever else this host does meets all of them.
fn measure(bench: &Bench, args: &Args, run: Run) -> anyhow::Result<Row> {
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for round in 1..=args.rounds {
        eprintln!(
            "{} with {} clients, round {round} of {}",
            run.mode, run.clients, args.rounds
        );
        let measured = args.contenders.iter().map(|who| bench.measure(*who, run));
        rounds.push(measured.collect::<Result<_, _>>()?);
    }
    Ok(Row {
        run,
        contenders: args.contenders.clone(),
        rounds,
    })
}
