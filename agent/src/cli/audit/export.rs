//! `holdpoint audit export`: the whole record as lines, its checkpoints and links beside it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Write},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use holdpoint_core::{checkpoint::Checkpoint, merkle::Node};

use super::{config, signed_now};
use crate::{
    audit::{
        evidence::{self, Source, beside},
        ledger, lines,
    },
    control::client::{Client, Connect, Which},
};

/// Write the whole record to a file
///
/// Each line has the stored bytes of one event. FILE.checkpoints gets the checkpoints, the last of which is signed for all that is written,
/// and FILE.links the hashes of all events, by which `holdpoint audit verify` tells exactly which one was altered. As root: the record is
/// about everybody's sessions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: Connect,
    /// A copy of the state directory, which no daemon has open, instead of the running daemon's record.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The file to write. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let written = match &args.store {
        Some(dir) => from_store(&Source::Store(dir.clone()), &args.out)?,
        None => from_daemon(&args.connect, &args.out).await?,
    };
    eprintln!("{written} events are in {}", args.out.display());
    Ok(())
}

fn from_store(source: &Source, out: &Path) -> anyhow::Result<u64> {
    let mut file = create(out)?;
    let mut count = 0;
    for line in source.lines()? {
        write_line(&mut file, &line?)?;
        count += 1;
    }
    file.flush()?;
    for (from, suffix) in [
        (Some(source.checkpoints()), ".checkpoints"),
        (source.links(), ".links"),
    ] {
        if let Some(from) = from.filter(|it| it.exists()) {
            copy(&from, &beside(out, suffix), u64::MAX)?;
        }
    }
    Ok(count)
}

async fn from_daemon(connect: &Connect, out: &Path) -> anyhow::Result<u64> {
    let config = config(connect)?;
    let ledger = config.state_dir.join(ledger::DIRECTORY);
    let notes = ledger.join(ledger::CHECKPOINTS);
    File::open(&notes)
        .with_context(|| format!("cannot read {}: are you root?", notes.display()))?;
    let note = signed_now(connect).await?;
    let key = evidence::key(&config.record_key().to_string_lossy())?;
    let size = Checkpoint::open(&note, &key)?.size;

    let links = ledger.join(ledger::LINKS);
    events(&connect.client()?, size, &links, out).await?;
    copy(&links, &beside(out, ".links"), size * 32)?;
    // Those that were made since are about events that are not in the file.
    let mut checkpoints = create(&beside(out, ".checkpoints"))?;
    let all = evidence::checkpoints(&notes, &key)?;
    for (_, note) in all.checkpoints.iter().filter(|(it, _)| it.size <= size) {
        checkpoints.write_all(note.as_bytes())?;
    }
    checkpoints.flush()?;
    Ok(size)
}

/// The first `size` events. The daemon leaves out those that were purged: what is left of them is their links.
async fn events(client: &Client, size: u64, links: &Path, out: &Path) -> anyhow::Result<()> {
    let links = File::open(links).with_context(|| format!("cannot open {}", links.display()))?;
    let mut file = create(out)?;
    let mut told = client.events(Which::default());
    let mut written = 0;
    while written < size {
        // Retention leaves the newest ones.
        let event = told.next().await?;
        let event = event
            .with_context(|| format!("the daemon's record ends after event {written}"))?
            .raw;
        for seq in written + 1..event.seq.min(size + 1) {
            write_line(&mut file, &lines::purged(seq, link(&links, seq)?))?;
        }
        if event.seq <= size {
            write_line(&mut file, &event.bytes)?;
        }
        written = event.seq;
    }
    Ok(file.flush()?)
}

fn link(links: &File, seq: u64) -> anyhow::Result<Node> {
    let mut link = [0; 32];
    links
        .read_exact_at(&mut link, (seq - 1) * 32)
        .with_context(|| format!("the link of event {seq} cannot be read"))?;
    Ok(link.into())
}

fn write_line(file: &mut impl Write, line: &[u8]) -> io::Result<()> {
    file.write_all(line)?;
    file.write_all(b"\n")
}

fn copy(from: &Path, to: &Path, most: u64) -> anyhow::Result<()> {
    let opened = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut file = create(to)?;
    io::copy(&mut BufReader::new(opened).take(most), &mut file)?;
    Ok(file.flush()?)
}

/// The record is root's: so is its export.
fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = opened.with_context(|| format!("cannot make {}", path.display()))?;
    Ok(BufWriter::with_capacity(256 * 1024, file))
}
