//! Apache Parquet (https://parquet.apache.org/docs/file-format/), as little of it as one flat table of texts and numbers needs: optional
//! columns, plain encoding, one zstd page a column and row group. Written here because the `parquet` crate brings 16 crates along, a second
//! library for time among them, and more than a minute of compilation; DuckDB and Arrow read the result in the tests.

mod columns;
mod thrift;

use std::io::Write;

use anyhow::Context as _;

use super::{CANNOT_WRITE, Form, Whole, har::url};
use columns::{Column, Kind};
use thrift::Struct;

const MAGIC: &[u8] = b"PAR1";
/// Operations in one row group at most.
const ROWS: usize = 8192;
/// Bytes in one row group at most, or a little more.
const BYTES: usize = 16 * 1024 * 1024;

/// Names and kinds, in the order of [`Table::row`].
const COLUMNS: [(&str, Kind); 28] = [
    ("seq", Kind::Number),
    ("time", Kind::Time),
    ("session", Kind::Text),
    ("principal", Kind::Text),
    ("user", Kind::Text),
    ("operation", Kind::Text),
    ("action", Kind::Text),
    ("resource", Kind::Text),
    ("method", Kind::Text),
    ("host", Kind::Text),
    ("url", Kind::Text),
    ("digest", Kind::Text),
    ("decision", Kind::Text),
    ("policies", Kind::Text),
    ("reason", Kind::Text),
    ("approval", Kind::Text),
    ("answered_by", Kind::Text),
    ("hold_ended", Kind::Text),
    ("held_us", Kind::Number),
    ("status", Kind::Number),
    ("result", Kind::Text),
    ("request_bytes", Kind::Number),
    ("response_bytes", Kind::Number),
    ("lasted_us", Kind::Number),
    ("statement", Kind::Text),
    ("command_tag", Kind::Text),
    ("sqlstate", Kind::Text),
    ("rows", Kind::Number),
];

pub(super) struct Table {
    columns: Vec<Column>,
    rows: usize,
    /// Bytes written so far.
    at: u64,
    groups: Vec<Struct>,
    total: u64,
}

impl Table {
    pub(super) fn begin(out: &mut impl Write) -> anyhow::Result<Self> {
        out.write_all(MAGIC).context(CANNOT_WRITE)?;
        Ok(Self {
            columns: COLUMNS.map(|_| Column::default()).into(),
            rows: 0,
            at: MAGIC.len() as u64,
            groups: Vec::new(),
            total: 0,
        })
    }

    fn row(&mut self, whole: &Whole<'_>) {
        let (story, session) = (whole.story, whole.session);
        let (operation, decision) = (&story.operation, &story.decision);
        let policies: Vec<_> = decision.policies.iter().map(|it| it.id.as_str()).collect();
        let answer = story.answer();
        let (hold, outcome) = (story.hold.as_ref(), story.outcome.as_ref());
        let over = hold.and_then(|it| it.over.as_ref());
        let people = hold.map(|hold| {
            let names = hold.answers.iter().map(|it| it.vote.reviewer.as_str());
            names.collect::<Vec<_>>().join(", ")
        });
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|it| Some(it.as_str()?.to_owned()))
        };
        let numbers = |value: Option<u64>| value.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
        let digest = operation.digest.to_string();
        let cells = [
            Cell::Number(numbers(Some(story.seq))),
            Cell::Number(Some(story.at.as_microsecond())),
            Cell::text(story.session.as_str()),
            Cell::text(&session.principal),
            Cell::text(&session.user.name),
            Cell::text(operation.id.as_str()),
            Cell::text(operation.action.as_str()),
            Cell::text(operation.resource.as_str()),
            Cell::text(operation.method.as_str()),
            Cell::text(operation.host.as_str()),
            Cell::text(&url(story)),
            Cell::text(&digest),
            Cell::Text(word(serde_json::to_value(decision.verdict))),
            Cell::text(&policies.join(", ")),
            Cell::Text(decision.reason.as_ref().map(|it| it.as_str().to_owned())),
            Cell::Text(hold.map(|it| it.approval.to_string())),
            Cell::Text(people),
            Cell::Text(over.map(|it| it.how.to_owned())),
            Cell::Number(numbers(story.held_us())),
            Cell::Number(story.status().map(i64::from)),
            Cell::Text(outcome.and_then(|it| word(serde_json::to_value(it.result)))),
            Cell::Number(numbers(outcome.map(|it| it.request_bytes))),
            Cell::Number(numbers(outcome.map(|it| it.response_bytes))),
            Cell::Number(numbers(outcome.map(|_| story.lasted_us()))),
            Cell::Text(story.statement().map(str::to_owned)),
            Cell::Text(answer.and_then(|it| Some(it.tag.as_ref()?.as_str().to_owned()))),
            Cell::Text(answer.and_then(|it| Some(it.sqlstate.as_ref()?.as_str().to_owned()))),
            Cell::Number(numbers(answer.map(|it| it.rows))),
        ];
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match cell {
                Cell::Text(value) => column.text(value.as_deref()),
                Cell::Number(value) => column.number(value),
            }
        }
        self.rows += 1;
    }

    /// Writes the rows that have come together as a row group.
    fn flush(&mut self, out: &mut impl Write) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        for ((name, kind), column) in COLUMNS.iter().zip(&mut self.columns) {
            let page = std::mem::take(column).page()?;
            out.write_all(&page.bytes).context(CANNOT_WRITE)?;
            chunks.push(page.chunk(name, *kind, self.at));
            self.at += page.bytes.len() as u64;
            bytes += page.bytes.len();
        }
        let mut group = Struct::default();
        group.structs(1, &chunks);
        group.i64(2, i64::try_from(bytes)?);
        group.i64(3, i64::try_from(rows)?);
        self.groups.push(group);
        self.total += rows as u64;
        Ok(())
    }
}

enum Cell {
    Text(Option<String>),
    Number(Option<i64>),
}

impl Cell {
    fn text(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl<W: Write> Form<W> for Table {
    const BODIES: bool = false;

    fn operation(&mut self, out: &mut W, whole: &Whole<'_>) -> anyhow::Result<()> {
        self.row(whole);
        let bytes: usize = self.columns.iter().map(Column::len).sum();
        if self.rows == ROWS || bytes >= BYTES {
            self.flush(out)?;
        }
        Ok(())
    }

    /// What is where stands at the end (`FileMetaData` of parquet.thrift).
    fn finish(mut self, out: &mut W) -> anyhow::Result<()> {
        self.flush(out)?;
        let mut root = Struct::default();
        root.text(4, "operations");
        root.i32(5, i32::try_from(COLUMNS.len())?);
        let columns = COLUMNS.iter().map(|(name, kind)| kind.schema(name));
        let schema: Vec<_> = [root].into_iter().chain(columns).collect();
        let mut footer = Struct::default();
        footer.i32(1, 1);
        footer.structs(2, &schema);
        footer.i64(3, i64::try_from(self.total)?);
        footer.structs(4, &self.groups);
        footer.text(6, concat!("holdpoint version ", env!("CARGO_PKG_VERSION")));
        let footer = footer.finish();
        let length = u32::try_from(footer.len()).context("too many row groups")?;
        out.write_all(&footer).context(CANNOT_WRITE)?;
        out.write_all(&length.to_le_bytes()).context(CANNOT_WRITE)?;
        out.write_all(MAGIC).context(CANNOT_WRITE)
    }
}
