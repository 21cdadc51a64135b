//! `holdpoint sessions export`.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, ensure};

use crate::{
    cli::approvals::word,
    control::client::{Client, Which},
    export::{Format, export as write, source::Live},
};

/// What to export, and how.
#[derive(Debug, clap::Args)]
pub struct Exporting {
    /// The session; without it, the whole host.
    id: Option<String>,
    /// The form.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write, which must not be there yet; without it, standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only events with numbers above this one: where an export before this one ended.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

pub(super) async fn export(client: Client, exporting: &Exporting) -> anyhow::Result<()> {
    let session = exporting.id.as_deref().map(word).transpose()?;
    let which = Which {
        session: session.map(str::to_owned),
        after: exporting.after,
        follow: false,
    };
    let mut source = Live::new(client, which);
    let Some(path) = &exporting.out else {
        let out = io::stdout();
        // It is for programs, byte for byte; a terminal would obey what agents wrote.
        ensure!(
            !out.is_terminal(),
            "an export is not for a terminal: name a file with --out, or send it to a program"
        );
        return write(
            &mut source,
            exporting.format,
            &mut BufWriter::new(out.lock()),
        )
        .await;
    };
    let cannot = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(create(path).with_context(cannot)?);
    let written = write(&mut source, exporting.format, &mut file).await;
    if let Err(error) = written {
        // Half of it looks like all of it.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    file.flush().with_context(cannot)
}

/// For its owner alone: it says what happened on this host.
fn create(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
