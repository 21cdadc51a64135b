//! `holdpoint audit`: proof of what happened.

mod export;
mod retention;
mod verify;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use holdpoint_core::checkpoint::{Checkpoint, note::Verifier};
use serde_json::{Value, json};

use crate::{
    audit::{
        bundle::Bundle,
        evidence::{self, Source},
        keys,
    },
    cli::{
        approvals::screen::{self, Output},
        report, status,
    },
    config::{Config, DEFAULT_PATH},
    control::client::Connect,
    shipping::{self, shipped::Shipped},
};

/// Proof that nobody changed the record
///
/// The daemon signs the record every so often. Checkpoints go to the journal and, where configured, to a file elsewhere; whoever keeps
/// one can prove later, with the public key alone, what was in the record at that time.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the public key that checkpoints are signed with.
    Key(Key),
    /// Sign what is in the record now, and print that checkpoint.
    Checkpoint(Newest),
    /// Write the whole record to a file, with its checkpoints beside it.
    Export(export::Args),
    /// Check a record, or a proof from it: offline, with the public key alone
    ///
    /// Exit code 0: every event is as it was when a checkpoint was signed. 1: something was altered, removed, moved or forged; the first
    /// event of which that is true is named. 2: it could not be verified (nothing is signed with this key, a file cannot be read). 3: as 0,
    /// but there are events after the last checkpoint, which only follow from those before.
    Verify(verify::Args),
    /// Write a proof to a file of its own: that one event is in the record, or that it only grew between two checkpoints.
    Prove(Prove),
    /// Show what of the record goes when, and what is kept from that. Changes nothing.
    Retention(retention::Args),
    /// Keep everything that a session did, whatever `[record.retention]` says, until it is released.
    Hold(retention::Session),
    /// End a session's legal hold.
    Release(retention::Session),
    /// Ship what `[record.ship]` has not shipped yet, and say how far it is.
    Ship(Newest),
    /// Who approved what, when, and the exact request.
    Report(report::Args),
}

#[derive(Debug, clap::Args)]
struct Key {
    #[command(flatten)]
    connect: Connect,
    /// Make a key in this file, to be configured as `record.checkpoints.key_file`, and print its public half.
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Newest {
    #[command(flatten)]
    connect: Connect,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Where the record is.
#[derive(Debug, clap::Args)]
struct Where {
    /// A copy of the state directory (or of the record in it), which no daemon has open.
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    store: Option<PathBuf>,
    /// An export of the record; `-` for standard input. Its checkpoints are looked for beside it, in FILE.checkpoints.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// A copy of what `[record.ship]` has shipped: the directory, or what was copied out of the bucket.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["store", "export"])]
    shipped: Option<PathBuf>,
}

impl Where {
    fn source(&self) -> anyhow::Result<Source> {
        match (&self.store, &self.export, &self.shipped) {
            (Some(dir), ..) => Ok(Source::Store(dir.clone())),
            (_, Some(file), _) => Ok(Source::Export(file.clone())),
            (.., Some(dir)) => Ok(Source::Shipped(Shipped::open(dir)?)),
            (None, None, None) => anyhow::bail!(
                "where is the record? Say --store DIR, --export FILE or --shipped DIR"
            ),
        }
    }
}

#[derive(Debug, clap::Args)]
struct Prove {
    #[command(flatten)]
    place: Where,
    /// The public key, or the file it is in.
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// The number of the event.
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    event: Option<u64>,
    /// For a `hold` event: the file with all that was asked, of which it has the digest (`held/ap-...` in the state directory). It goes into
    /// the proof, which then shows exactly what people were asked about.
    #[arg(long, value_name = "FILE", requires = "event")]
    request: Option<PathBuf>,
    /// The older of two checkpoints, in a file: the last one there.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The checkpoint to prove it by, in a file: the last one there. The newest beside the record unless told otherwise.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When something cannot be read or written, or proves nothing. `verify` tells that by its exit code.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Key(key) => print_key(key)?,
        Command::Checkpoint(newest) => print_checkpoint(newest).await?,
        Command::Export(args) => export::run(args).await?,
        Command::Verify(args) => return Ok(verify::run(args)),
        Command::Prove(args) => prove(args)?,
        Command::Retention(args) => retention::run(args).await?,
        Command::Hold(args) => retention::hold(args).await?,
        Command::Release(args) => retention::release(args).await?,
        Command::Ship(args) => return ship(args).await,
        Command::Report(args) => report::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit code 1: something is not there yet.
async fn ship(args: &Newest) -> anyhow::Result<ExitCode> {
    let client = args.connect.client()?;
    let status: shipping::Status = client.post("/v1/record/ship", &json!({})).await?;
    screen::print(&match args.output {
        Output::Json => screen::json(&status)?,
        Output::Table => status::shipped(&status),
    })?;
    Ok(match status.trouble.is_none() && status.behind == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print_key(args: &Key) -> anyhow::Result<()> {
    let key = match &args.new {
        Some(file) => {
            let made = keys::make(file);
            let made = made.with_context(|| format!("cannot make a key in {}", file.display()))?;
            made.verifier().to_string()
        }
        None => {
            let file = config(&args.connect)?.record_key();
            fs::read_to_string(&file).with_context(|| {
                format!("cannot read {}: did the daemon ever run?", file.display())
            })?
        }
    };
    screen::print(&format!("{}\n", key.trim()))
}

fn config(connect: &Connect) -> anyhow::Result<Config> {
    Config::load(connect.config.as_deref().unwrap_or(DEFAULT_PATH.as_ref()))
}

async fn print_checkpoint(args: &Newest) -> anyhow::Result<()> {
    let note = signed_now(&args.connect).await?;
    screen::print(&match args.output {
        Output::Json => screen::json(&json!({ "note": note }))?,
        Output::Table => note,
    })
}

/// A checkpoint of everything that is in the daemon's record.
async fn signed_now(connect: &Connect) -> anyhow::Result<String> {
    let answer: Value = connect
        .client()?
        .post("/v1/record/checkpoint", &json!({}))
        .await?;
    let note = answer["note"].as_str();
    Ok(note.context("the daemon gave no checkpoint")?.to_owned())
}

fn prove(args: &Prove) -> anyhow::Result<()> {
    let key = evidence::key(&args.key)?;
    let source = args.place.source()?;
    let to = args.to.clone().unwrap_or_else(|| source.checkpoints());
    let to = last_checkpoint(&to, &key)?;
    let bundle = match (&args.from, args.event) {
        (Some(from), _) => Bundle::of_growth(last_checkpoint(from, &key)?, to, source.lines()?)?,
        (None, Some(event)) => {
            let request = args.request.as_ref().map(fs::read_to_string).transpose();
            let request = request.context("cannot read the request")?;
            Bundle::of_event(event, request, to, source.lines()?)?
        }
        (None, None) => anyhow::bail!("what is to be proved? Say --event N or --from FILE"),
    };
    bundle.verify(&key)?;
    let text = serde_json::to_string_pretty(&bundle)? + "\n";
    fs::write(&args.out, text).with_context(|| format!("cannot write {}", args.out.display()))
}

fn last_checkpoint(file: &std::path::Path, key: &Verifier) -> anyhow::Result<(Checkpoint, String)> {
    let mut found = evidence::checkpoints(file, key)?;
    let last = found.checkpoints.pop();
    ensure!(
        last.is_some(),
        "{} has no checkpoint that is signed with the key {key}",
        file.display()
    );
    last.context("there is one")
}
