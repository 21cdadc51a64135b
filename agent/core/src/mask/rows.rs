//! Rows of databases: PostgreSQL's `DataRow` and `COPY` data, masked so that each value stays one of its type.
//!
//! A value is masked for where it is (`columns` of a set, a field's name), or for what is in it. What stands in its place is valid for
//! the column's type: a number is 0, a date 2000-01-01, text a mask token. `NULL` stays `NULL`; rows and columns stay as many.

mod binary;
mod computed;
mod copy;
mod fields;
mod kind;
mod literal;
mod number;
mod plan;
mod values;

use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::copy::{CopyFormat, CopyMasker};
use self::{plan::Plan, values::Values};
use super::{Found, MaskSet, Origin, Unreadable};

/// The longest row that is masked, in bytes: the length of a value, and of the row, goes before it on the wire and changes with the mask, so that
/// it has to be held as a whole. What is longer is [`Unreadable::TooLong`]; rows that nothing can match pass whatever their length.
pub const MAX_ROW: usize = 16 << 20;

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What the result calls it.
    pub name: String,
    /// The relation's column that it is; `None` for what is computed, or where nobody could tell.
    pub origin: Option<Origin>,
    /// The type's OID in `pg_type`; 0 where it is not known (`COPY`).
    pub type_oid: u32,
    /// 0 is text, 1 binary.
    pub format: i16,
}

/// Masks the rows of one result.
pub struct RowMasker {
    values: Values,
    plans: Vec<Option<Plan>>,
}

impl RowMasker {
    /// For rows of these columns. `statement` is the text that they come from: a computed column (`upper(email)`) does not tell what it is
    /// made of, the words of the statement do. `None`: nobody knows, so what is computed may be made of anything.
    #[must_use]
    pub fn new(set: Arc<MaskSet>, columns: &[Column], statement: Option<&str>) -> Self {
        Self {
            plans: Plan::of(&set, columns, statement),
            values: Values::new(set),
        }
    }

    /// Whether nothing in such rows can be masked, so that they pass unread.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.plans.iter().all(Option::is_none)
    }

    /// Adds the masked row to `out`. `row` is the body of a `DataRow` message: a count, then each value behind its length.
    ///
    /// # Errors
    /// When it is no such row, or too long, or has a value that has to be masked and cannot be; `out` is as before.
    pub fn row(&mut self, row: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if row.len() > MAX_ROW {
            return Err(Unreadable::TooLong);
        }
        let before = out.len();
        let written = self.write(row, out);
        if written.is_err() {
            out.truncate(before);
        }
        written
    }

    fn write(&mut self, row: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let Self { values, plans } = self;
        let count = row.first_chunk().ok_or(Unreadable::Row)?;
        if usize::from(u16::from_be_bytes(*count)) != plans.len() {
            return Err(Unreadable::Row);
        }
        write_fields(row, out, |column, value, out| match &plans[column] {
            Some(plan) => values.write(plan, value, out),
            None => Ok(false),
        })
    }

    /// One value of the first column as it would be in a row; `None` where it would be withheld.
    pub(super) fn value(&mut self, value: &[u8]) -> Option<Vec<u8>> {
        let mut masked = Vec::new();
        let is_masked = match self.plans.first()? {
            Some(plan) => self.values.write(plan, value, &mut masked).ok()?,
            None => false,
        };
        Some(if is_masked { masked } else { value.to_vec() })
    }

    /// How many of what were masked so far.
    #[must_use]
    pub fn found(self) -> Found {
        self.values.found()
    }
}

/// A count, and as many values behind their lengths, each as `write` writes it (`true`) or as it is.
fn write_fields(
    row: &[u8],
    out: &mut Vec<u8>,
    mut write: impl FnMut(usize, &[u8], &mut Vec<u8>) -> Result<bool, Unreadable>,
) -> Result<(), Unreadable> {
    let (count, mut rest) = row.split_first_chunk().ok_or(Unreadable::Row)?;
    let mut masked = Zeroizing::new(Vec::new());
    // What is before `from` was given out.
    let mut from = 0;
    for column in 0..usize::from(u16::from_be_bytes(*count)) {
        let (value, after) = binary::value(rest)?;
        let at = row.len() - rest.len();
        rest = after;
        let Some(value) = value else { continue };
        masked.clear();
        if write(column, value, &mut masked)? {
            out.extend_from_slice(&row[from..at]);
            let length = i32::try_from(masked.len()).map_err(|_| Unreadable::TooLong)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&masked);
            from = row.len() - rest.len();
        }
    }
    if !rest.is_empty() {
        return Err(Unreadable::Row);
    }
    out.extend_from_slice(&row[from..]);
    Ok(())
}

#[cfg(test)]
mod tests;
