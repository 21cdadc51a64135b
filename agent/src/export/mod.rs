//! The record in the forms that others read. Everything is written as it is read: what is held in memory is a few operations, whatever
//! the size of the session.

mod har;
mod html;
mod ocsf;
mod parquet;
pub mod source;
pub mod story;

use std::io::Write;

use anyhow::Context as _;

use crate::record::{SessionSummary, StoredEvent};
use source::{Kept, Source};
use story::{Stories, Story};

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The stored events byte for byte, one a line: what the hashes are of.
    Ndjson,
    /// HTTP Archive 1.2, for the network panel of a browser's developer tools.
    Har,
    /// One page with a time line.
    Html,
    /// OCSF 1.8.0 API Activity, one event a line, for a SIEM.
    Ocsf,
    /// A table of operations, for DuckDB, Spark or pandas.
    Parquet,
}

/// An operation with everything that there is of it.
pub(crate) struct Whole<'a> {
    pub(crate) story: &'a Story,
    pub(crate) session: &'a SessionSummary,
    pub(crate) request: Kept,
    pub(crate) response: Kept,
}

/// What becomes of operations and other events.
trait Form<W: Write> {
    /// Whether bodies are wanted.
    const BODIES: bool;
    fn operation(&mut self, out: &mut W, whole: &Whole<'_>) -> anyhow::Result<()>;
    /// An event that belongs to no operation.
    fn event(&mut self, out: &mut W, event: &StoredEvent) -> anyhow::Result<()> {
        let _ = (out, event);
        Ok(())
    }
    fn finish(self, out: &mut W) -> anyhow::Result<()>;
}

/// Writes everything that comes out of `source`.
///
/// # Errors
/// When it cannot be read or written.
pub async fn export<W: Write>(
    source: &mut impl Source,
    format: Format,
    out: &mut W,
) -> anyhow::Result<()> {
    match format {
        Format::Ndjson => verbatim(source, out).await?,
        Format::Har => through(source, har::Har::begin(out)?, out).await?,
        Format::Html => through(source, html::Page::begin(out)?, out).await?,
        Format::Ocsf => through(source, ocsf::Ocsf, out).await?,
        Format::Parquet => through(source, parquet::Table::begin(out)?, out).await?,
    }
    out.flush().context(CANNOT_WRITE)
}

const CANNOT_WRITE: &str = "cannot write the export";

async fn verbatim(source: &mut impl Source, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(told) = source.next().await? {
        out.write_all(&told.raw.bytes).context(CANNOT_WRITE)?;
        out.write_all(b"\n").context(CANNOT_WRITE)?;
    }
    Ok(())
}

async fn through<W: Write, F: Form<W>>(
    source: &mut impl Source,
    mut form: F,
    out: &mut W,
) -> anyhow::Result<()> {
    let mut stories = Stories::default();
    while let Some(told) = source.next().await? {
        if !stories.hear(&told.event) {
            form.event(out, &told.event)?;
        }
        while let Some(story) = stories.next_ready() {
            write_one(source, &mut form, out, &story).await?;
        }
    }
    while let Some(story) = stories.next_left() {
        write_one(source, &mut form, out, &story).await?;
    }
    form.finish(out)
}

async fn write_one<W: Write, F: Form<W>>(
    source: &mut impl Source,
    form: &mut F,
    out: &mut W,
    story: &Story,
) -> anyhow::Result<()> {
    let (mut request, mut response) = (Kept::None, Kept::None);
    if F::BODIES {
        let session = story.session.as_str();
        request = source.kept(session, story.request.as_ref()).await?;
        response = source.kept(session, story.response.as_ref()).await?;
    }
    let session = source.session(&story.session).await?;
    let whole = Whole {
        story,
        session: &session,
        request,
        response,
    };
    form.operation(out, &whole)
}

#[cfg(test)]
mod tests;
