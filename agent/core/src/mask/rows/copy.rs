//! `COPY ... TO STDOUT` and `COPY ... FROM STDIN`, in pieces that may end anywhere.

mod csv;
mod text;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::{csv::Csv, text::Text};
use super::{
    super::{Found, MaskSet, Unreadable, rows::Column},
    MAX_ROW,
    plan::Plan,
    values::Values,
};

/// How `COPY` writes rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// A row a line, fields divided, backslashes before what is special.
    Text {
        /// Between fields.
        delimiter: u8,
        /// What `NULL` is.
        null: Vec<u8>,
        /// The first line has the columns' names.
        header: bool,
    },
    /// Comma-separated.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Around them.
        quote: u8,
        /// Before a quote within quotes.
        escape: u8,
        /// What `NULL` is, without quotes.
        null: Vec<u8>,
        /// The first line has the columns' names.
        header: bool,
    },
    /// PostgreSQL's own.
    Binary,
}

impl CopyFormat {
    /// Text as it is without options.
    #[must_use]
    pub fn text() -> Self {
        Self::Text {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
            header: false,
        }
    }

    /// CSV as it is without options.
    #[must_use]
    pub fn csv() -> Self {
        Self::Csv {
            delimiter: b',',
            quote: b'"',
            escape: b'"',
            null: Vec::new(),
            header: false,
        }
    }
}

/// Masks what a `COPY` carries. One row is held at a time, up to [`MAX_ROW`].
pub struct CopyMasker {
    columns: Columns,
    form: Form,
    held: Zeroizing<Vec<u8>>,
    broken: Option<Unreadable>,
}

/// The columns, and what is done with them.
struct Columns {
    plans: Vec<Option<Plan>>,
    /// A column that nobody has named.
    other: Option<Plan>,
    values: Values,
}

enum Form {
    Text(Text),
    Csv(Csv),
    Binary { begun: bool, ended: bool },
}

/// A line of text or CSV, masked by `row`; but for names of columns, the old mark of the end, and what ends a line on Windows.
fn line_by(
    is_header: bool,
    line: &[u8],
    out: &mut Vec<u8>,
    row: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let (line, end) = match line.strip_suffix(b"\r") {
        Some(line) => (line, &b"\r"[..]),
        None => (line, &b""[..]),
    };
    if is_header || line == b"\\." {
        out.extend_from_slice(line);
    } else {
        row(line, out)?;
    }
    out.extend_from_slice(end);
    Ok(())
}

/// The start of the binary format, before flags and the length of an extension.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

impl CopyMasker {
    /// For data with these columns, in their order, each in the format that `format` says; their types' OIDs may be 0 (unknown), then what looks like
    /// a number stays one. Columns beyond these are masked for what is in them.
    #[must_use]
    pub fn new(
        set: Arc<MaskSet>,
        columns: &[Column],
        statement: Option<&str>,
        format: CopyFormat,
    ) -> Self {
        let is_binary = i16::from(format == CopyFormat::Binary);
        let of_format = |column: &Column| Column {
            format: is_binary,
            ..column.clone()
        };
        let columns: Vec<Column> = columns.iter().map(of_format).collect();
        let other = Column {
            name: String::new(),
            origin: None,
            type_oid: 0,
            format: is_binary,
        };
        // A table's column is no computed one, and what nobody can tell may be any.
        let other = Plan::of(&set, &[other], statement).pop().flatten();
        Self {
            columns: Columns {
                plans: Plan::of(&set, &columns, statement),
                other,
                values: Values::new(set),
            },
            form: match format {
                CopyFormat::Text {
                    delimiter,
                    null,
                    header,
                } => Form::Text(Text::new(delimiter, null, header)),
                CopyFormat::Csv {
                    delimiter,
                    quote,
                    escape,
                    null,
                    header,
                } => Form::Csv(Csv::new(delimiter, [quote, escape], null, header)),
                CopyFormat::Binary => Form::Binary {
                    begun: false,
                    ended: false,
                },
            },
            held: Zeroizing::default(),
            broken: None,
        }
    }

    /// Whether nothing in it can be masked, so that it passes unread.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.columns.other.is_none() && self.columns.plans.iter().all(Option::is_none)
    }

    /// Takes the next piece, and adds what is masked to `out`: whole rows.
    ///
    /// # Errors
    /// When it cannot be read, or a row is too long; from then on always.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let written = self.take(input, out);
        self.broken = written.err();
        written
    }

    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if self.held.is_empty() {
            let done = self.form.rows(&mut self.columns, input, out)?;
            self.held.extend_from_slice(&input[done..]);
        } else {
            self.held.extend_from_slice(input);
            let done = self.form.rows(&mut self.columns, &self.held, out)?;
            self.held.drain(..done);
        }
        if self.held.len() > MAX_ROW {
            return Err(Unreadable::TooLong);
        }
        Ok(())
    }

    /// The end of the data: adds the rest.
    ///
    /// # Errors
    /// When it cannot be read, or is not all there.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Found, Unreadable> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        match &mut self.form {
            Form::Text(text) => text.finish(&mut self.columns, &self.held, out)?,
            Form::Csv(csv) => csv.finish(&mut self.columns, &self.held, out)?,
            Form::Binary { .. } if self.held.is_empty() => {}
            Form::Binary { .. } => return Err(Unreadable::Row),
        }
        Ok(self.columns.values.found())
    }
}

impl Form {
    /// Writes the rows that are there as a whole. Returns how much of `input` that was.
    fn rows(
        &mut self,
        columns: &mut Columns,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Unreadable> {
        match self {
            Self::Text(text) => text.rows(columns, input, out),
            Self::Csv(csv) => csv.rows(columns, input, out),
            Self::Binary { begun, ended } => binary(columns, input, (begun, ended), out),
        }
    }
}

impl Columns {
    /// Writes what stands in place of the value in a column; `false` where it stays.
    fn write(
        &mut self,
        column: usize,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        let plan = match self.plans.get(column) {
            Some(plan) => plan,
            None => &self.other,
        };
        match plan {
            Some(plan) => self.values.write(plan, value, out),
            None => Ok(false),
        }
    }
}

fn binary(
    columns: &mut Columns,
    input: &[u8],
    (begun, ended): (&mut bool, &mut bool),
    out: &mut Vec<u8>,
) -> Result<usize, Unreadable> {
    let mut done = 0;
    if !*begun {
        let length = SIGNATURE.len().min(input.len());
        if input[..length] != SIGNATURE[..length] {
            return Err(Unreadable::Row);
        }
        let Some(extension) = input.get(SIGNATURE.len() + 4..SIGNATURE.len() + 8) else {
            return Ok(0);
        };
        let length = u32::from_be_bytes(extension.try_into().expect("four bytes"));
        let end = SIGNATURE.len() + 8 + usize::try_from(length).map_err(|_| Unreadable::TooLong)?;
        let Some(head) = input.get(..end) else {
            return Ok(0);
        };
        out.extend_from_slice(head);
        (*begun, done) = (true, end);
    }
    while let Some(length) = row_length(&input[done..])? {
        let row = &input[done..done + length];
        if *ended {
            return Err(Unreadable::Row);
        }
        *ended = length == 2 && row == [0xff, 0xff];
        if *ended {
            out.extend_from_slice(row);
        } else {
            super::write_fields(row, out, |column, value, out| {
                columns.write(column, value, out)
            })?;
        }
        done += length;
    }
    Ok(done)
}

/// The length of the row at the start, if it is all there.
fn row_length(input: &[u8]) -> Result<Option<usize>, Unreadable> {
    let Some((count, mut rest)) = input.split_first_chunk() else {
        return Ok(None);
    };
    let count = i16::from_be_bytes(*count);
    for _ in 0..count.max(0) {
        let Some((length, after)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| Unreadable::Row)?,
        };
        match after.get(length..) {
            Some(after) => rest = after,
            None => return Ok(None),
        }
    }
    match count {
        -1.. => Ok(Some(input.len() - rest.len())),
        _ => Err(Unreadable::Row),
    }
}
