//! Columns, and the page that each becomes.

use anyhow::Context as _;

use super::thrift::{Struct, varint};

/// Numbers of parquet.thrift's enumerations.
const TYPE_INT64: i32 = 2;
const TYPE_BYTE_ARRAY: i32 = 6;
const CONVERTED_UTF8: i32 = 0;
const CONVERTED_TIMESTAMP_MICROS: i32 = 10;
const OPTIONAL: i32 = 1;
const PLAIN: i32 = 0;
const RLE: i32 = 3;
const ZSTD: i32 = 6;
const DATA_PAGE: i32 = 0;

/// zstd's own default.
const LEVEL: i32 = 3;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    /// Microseconds since 1970, UTC.
    Time,
}

impl Kind {
    fn physical(self) -> i32 {
        match self {
            Self::Text => TYPE_BYTE_ARRAY,
            Self::Number | Self::Time => TYPE_INT64,
        }
    }

    /// Its `SchemaElement`.
    pub(super) fn schema(self, name: &str) -> Struct {
        let mut schema = Struct::default();
        schema.i32(1, self.physical());
        schema.i32(3, OPTIONAL);
        schema.text(4, name);
        match self {
            Self::Text => schema.i32(6, CONVERTED_UTF8),
            Self::Time => schema.i32(6, CONVERTED_TIMESTAMP_MICROS),
            Self::Number => {}
        }
        schema
    }
}

/// The values of a column that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Runs of values that are there, and that are not.
    runs: Vec<(bool, u64)>,
    values: Vec<u8>,
    rows: usize,
}

impl Column {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn text(&mut self, text: Option<&str>) {
        // Texts of events are far below; a longer one would have no length here.
        let text = text.and_then(|text| Some((u32::try_from(text.len()).ok()?, text)));
        self.is_there(text.is_some());
        if let Some((length, text)) = text {
            self.values.extend_from_slice(&length.to_le_bytes());
            self.values.extend_from_slice(text.as_bytes());
        }
    }

    pub(super) fn number(&mut self, number: Option<i64>) {
        self.is_there(number.is_some());
        self.values
            .extend(number.into_iter().flat_map(i64::to_le_bytes));
    }

    fn is_there(&mut self, there: bool) {
        self.rows += 1;
        match self.runs.last_mut() {
            Some((last, count)) if *last == there => *count += 1,
            _ => self.runs.push((there, 1)),
        }
    }

    pub(super) fn page(self) -> anyhow::Result<Page> {
        let mut levels = Vec::new();
        for (there, count) in self.runs {
            varint(&mut levels, count << 1);
            levels.push(there.into());
        }
        let length = u32::try_from(levels.len()).context("too many rows")?;
        let mut plain = length.to_le_bytes().to_vec();
        plain.append(&mut levels);
        plain.extend_from_slice(&self.values);
        let packed = zstd::bulk::compress(&plain, LEVEL).context("cannot compress")?;
        let mut about = Struct::default();
        about.i32(1, i32::try_from(self.rows)?);
        about.i32(2, PLAIN);
        about.i32(3, RLE);
        about.i32(4, RLE);
        let mut header = Struct::default();
        header.i32(1, DATA_PAGE);
        header.i32(2, i32::try_from(plain.len())?);
        header.i32(3, i32::try_from(packed.len())?);
        header.inner(5, &about);
        let mut bytes = header.finish();
        let plain = plain.len() + bytes.len();
        bytes.extend(packed);
        Ok(Page {
            bytes,
            rows: self.rows,
            plain,
        })
    }
}

/// A column of one row group, as it is written.
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    rows: usize,
    /// Bytes it would have had uncompressed.
    plain: usize,
}

impl Page {
    /// Its `ColumnChunk`, when it stands at this place of the file.
    pub(super) fn chunk(&self, name: &str, kind: Kind, at: u64) -> Struct {
        let number = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let mut about = Struct::default();
        about.i32(1, kind.physical());
        about.i32s(2, &[PLAIN, RLE]);
        about.texts(3, &[name]);
        about.i32(4, ZSTD);
        about.i64(5, number(self.rows));
        about.i64(6, number(self.plain));
        about.i64(7, number(self.bytes.len()));
        about.i64(9, at);
        let mut chunk = Struct::default();
        chunk.i64(2, at);
        chunk.inner(3, &about);
        chunk
    }
}
