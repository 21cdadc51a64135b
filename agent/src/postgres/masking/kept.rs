//! Rows, the data of a COPY, and parameters as the record keeps them: masked by its own sets, whatever the agent gets to see.

use std::sync::Arc;

use holdpoint_core::{
    mask::{
        MaskSet,
        rows::{Column, CopyFormat, CopyMasker, RowMasker},
    },
    sql::Copy,
};

use super::copy;
use crate::{
    record::{Capture, OperationId, Record, Way},
    session::SessionId,
};

/// Bytes of a value that the record keeps; it says how many there were.
const KEPT: usize = 4096;
/// Bytes of a row that is read for the record; longer ones pass as they come, and it says how long they were.
pub const LONGEST_ROW: usize = 1 << 20;
/// Rows: newline-delimited JSON, an array of texts a row, after one of the columns' names. A text in a row's place says why it is not there.
pub const ROWS: &str = "application/x-ndjson; header=present";
/// A statement and its parameters, as reviewers see them (RFC 6922).
pub const SQL: &str = "application/sql";

/// Whose statement it is, for what is kept of it.
#[derive(Clone)]
pub struct Keeping {
    /// Where.
    pub record: Record,
    /// Its session.
    pub session: SessionId,
    /// The first of its operations, which stands for all of them.
    pub operation: OperationId,
    /// What nothing is stored without.
    pub set: Arc<MaskSet>,
}

impl Keeping {
    /// Keeps the statement and what is bound to it, masked already.
    pub fn statement(&self, shown: &str) {
        let mut capture = self.capture(Way::Request, SQL);
        capture.push(shown.as_bytes());
        capture.finish();
    }

    /// Keeps rows with these columns, of this statement.
    #[must_use]
    pub fn rows(&self, columns: &[Column], statement: Option<&str>) -> Kept {
        let mut rows = KeptRows {
            capture: self.capture(Way::Response, ROWS),
            masker: RowMasker::new(self.set.clone(), columns, statement),
            types: columns.iter().map(binary_type).collect(),
            masked: Vec::new(),
            line: Vec::new(),
        };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        rows.line(&names);
        Kept::Rows(Box::new(rows))
    }

    /// Keeps the data of a COPY; nothing of it where it cannot be told what is in which column.
    #[must_use]
    pub fn copy(&self, way: Way, copying: Option<&Copy>, statement: Option<&str>) -> Option<Kept> {
        let form = match super::format(copying?)? {
            CopyFormat::Text { .. } => "text/tab-separated-values",
            CopyFormat::Csv { .. } => "text/csv",
            CopyFormat::Binary => "application/octet-stream",
        };
        Some(Kept::Copy(Box::new(KeptCopy {
            masker: copy(self.set.clone(), copying, statement).ok()?,
            capture: self.capture(way, form),
            masked: Vec::new(),
        })))
    }

    fn capture(&self, way: Way, form: &str) -> Capture {
        (self.record).capture(&self.session, &self.operation, way, Some(form))
    }
}

/// What of one statement is on its way into the record.
pub enum Kept {
    /// Rows.
    Rows(Box<KeptRows>),
    /// The data of a COPY.
    Copy(Box<KeptCopy>),
}

/// Rows on their way into the record.
pub struct KeptRows {
    capture: Capture,
    masker: RowMasker,
    /// Of each column that comes in binary format.
    types: Vec<Option<u32>>,
    masked: Vec<u8>,
    line: Vec<u8>,
}

/// The data of a COPY on its way into the record.
pub struct KeptCopy {
    capture: Capture,
    masker: CopyMasker,
    masked: Vec<u8>,
}

impl Kept {
    /// Takes in the body of a `DataRow`, or a piece of a COPY's data, and tells whether more is wanted: bodies are cut at the record's
    /// configured size.
    #[must_use]
    pub fn push(&mut self, data: &[u8]) -> bool {
        match self {
            Self::Rows(rows) => {
                rows.row(data);
                !rows.capture.is_full()
            }
            Self::Copy(copy) => copy.piece(data) && !copy.capture.is_full(),
        }
    }

    /// A row, or a piece, of so many bytes passes unread. Tells whether more is wanted: of a COPY nobody knows then where its rows begin.
    #[must_use]
    pub fn left_out(&mut self, bytes: usize) -> bool {
        match self {
            Self::Rows(rows) => {
                rows.line(&format!("a row of {bytes} bytes"));
                !rows.capture.is_full()
            }
            Self::Copy(_) => false,
        }
    }

    /// All of it has come, or as much as is kept.
    pub fn finish(self) {
        match self {
            Self::Rows(rows) => rows.capture.finish(),
            Self::Copy(copy) => copy.finish(),
        }
    }
}

/// Takes in what goes by, as long as more is wanted.
pub fn keep(kept: &mut Option<Kept>, push: impl FnOnce(&mut Kept) -> bool) {
    if kept.as_mut().is_some_and(|kept| !push(kept)) {
        kept.take().into_iter().for_each(Kept::finish);
    }
}

impl KeptRows {
    fn row(&mut self, row: &[u8]) {
        self.masked.clear();
        match self.masker.row(row, &mut self.masked) {
            Ok(()) => {
                let values = told(&self.masked, &self.types);
                self.line(&values);
            }
            Err(why) => self.line(&format!("a row that cannot be masked: {why}")),
        }
    }

    fn line(&mut self, values: &(impl serde::Serialize + ?Sized)) {
        self.line.clear();
        if serde_json::to_writer(&mut self.line, values).is_ok() {
            self.line.push(b'\n');
            self.capture.push(&self.line);
        }
    }
}

impl KeptCopy {
    /// Whether it could be read.
    fn piece(&mut self, data: &[u8]) -> bool {
        self.masked.clear();
        let is_read = self.masker.push(data, &mut self.masked).is_ok();
        self.capture.push(&self.masked);
        is_read
    }

    fn finish(mut self) {
        self.masked.clear();
        let is_read = self.masker.finish(&mut self.masked).is_ok();
        self.capture.push(&self.masked);
        if is_read {
            self.capture.finish();
        }
    }
}

fn binary_type(column: &Column) -> Option<u32> {
    (column.format == 1).then_some(column.type_oid)
}

/// The values of a row as text; bytes that are none in hexadecimal digits. What is broken off is left out: the row went through the masker
/// before, or nobody has to read it.
fn told(row: &[u8], types: &[Option<u32>]) -> Vec<Option<String>> {
    let mut values = Vec::with_capacity(types.len());
    let mut rest = row.get(2..).unwrap_or_default();
    for binary in types {
        let Some((length, after)) = rest.split_first_chunk() else {
            break;
        };
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            values.push(None);
            rest = after;
            continue;
        };
        let Some((value, after)) = after.split_at_checked(length) else {
            break;
        };
        values.push(Some(told_value(value, *binary)));
        rest = after;
    }
    values
}

/// `binary` is the type of a value in binary format.
fn told_value(value: &[u8], binary: Option<u32>) -> String {
    if let Some(number) = binary.and_then(|oid| told_number(value, oid)) {
        return number;
    }
    let kept = &value[..value.len().min(KEPT)];
    let is_text = |text: &str| binary.is_none() || !text.contains(|c: char| c.is_control());
    let mut text = match std::str::from_utf8(kept) {
        Ok(text) if is_text(text) => text.to_owned(),
        Err(error) if binary.is_none() && error.error_len().is_none() => {
            String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned()
        }
        _ => format!("\\x{}", hex::encode(kept)),
    };
    if kept.len() < value.len() {
        text.push_str(&format!("... ({} bytes)", value.len()));
    }
    text
}

/// Of the types that are sent as they lie in memory (`pg_type.dat`).
fn told_number(value: &[u8], oid: u32) -> Option<String> {
    Some(match (oid, value) {
        (16, [value]) => (if *value == 0 { "f" } else { "t" }).to_owned(),
        (21, _) => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        (23, _) => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        (20, _) => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        (26, _) => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        (700, _) => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        (701, _) => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_as_text() {
        let row = [
            &[0, 4][..],
            &[0, 0, 0, 2],
            b"ab",
            &[0xff; 4],
            &[0, 0, 0, 1, 7],
            &[0, 0, 0, 1, b'c'],
        ]
        .concat();
        assert_eq!(
            told(&row, &[None, None, Some(17), Some(25)]),
            [
                Some("ab".into()),
                None,
                Some("\\x07".into()),
                Some("c".into())
            ]
        );
        assert!(told(&row[..5], &[None]).is_empty());
        let long = told_value(&vec![b'x'; KEPT + 1], None);
        assert!(long.ends_with("... (4097 bytes)"), "{long}");
        assert_eq!(told_value(&7_i32.to_be_bytes(), Some(23)), "7");
        assert_eq!(told_value(&[1], Some(16)), "t");
    }
}
