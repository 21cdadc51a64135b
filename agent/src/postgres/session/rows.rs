//! What becomes of rows on their way to the client.

use std::sync::Arc;

use bytes::BytesMut;
use holdpoint_core::{
    mask::{
        MaskSet, Origin,
        rows::{Column, CopyMasker, RowMasker},
    },
    sql::Copy,
};

use super::End;
use crate::postgres::{frame::put, masking, server_messages::Described};

/// Who knows which column of which relation a result's column is.
pub(super) trait Columns: Sync {
    /// In the order asked, none for what is no column of a relation; nothing where it cannot be found out.
    fn origins(
        &self,
        asked: &[(u32, i16)],
    ) -> impl Future<Output = Option<Vec<Option<Origin>>>> + Send;

    /// No transaction is open any more, after so many answers of ReadyForQuery. What was admitted later may be in one.
    fn transaction_ended(&self, answered: u64);
}

/// What the columns of a result are; nothing where it cannot be found out.
pub(super) async fn columns(
    described: Vec<Described>,
    columns: &impl Columns,
) -> Option<Vec<Column>> {
    let asked: Vec<_> = described
        .iter()
        .filter(|it| it.table != 0)
        .map(|it| (it.table, it.attribute))
        .collect();
    let mut origins = match asked.is_empty() {
        true => Vec::new(),
        false => columns.origins(&asked).await?,
    }
    .into_iter();
    let columns = described.into_iter().map(|it| Column {
        origin: match it.table {
            0 => None,
            _ => origins.next().flatten(),
        },
        name: it.name,
        type_oid: it.type_oid,
        format: it.format,
    });
    Some(columns.collect())
}

/// What is done with rows, or the data of a COPY.
pub(super) enum Rows {
    /// Nothing has said what comes.
    Unknown,
    /// They go on unread.
    Pass,
    Mask(Box<RowMasker>),
    Copy(Box<CopyMasker>),
}

impl Rows {
    /// Rows with these columns, of this statement.
    pub(super) fn of(set: Arc<MaskSet>, columns: &[Column], statement: Option<&str>) -> Self {
        let masker = RowMasker::new(set, columns, statement);
        match masker.is_idle() {
            true => Self::Pass,
            false => Self::Mask(Box::new(masker)),
        }
    }

    /// The data of a `COPY ... TO STDOUT` in so many columns. Which those are has to be known: nothing else tells what is in it.
    pub(super) fn of_copy(
        set: Arc<MaskSet>,
        copying: Option<&Copy>,
        columns: usize,
        statement: Option<&str>,
    ) -> Result<Self, End> {
        // A table may have been altered since it was looked up.
        let copying = copying.filter(|it| it.columns.len() == columns);
        let masker = masking::copy(set, copying, statement)
            .map_err(|error| End::Withheld(error.to_string()))?;
        match masker.is_idle() {
            true => Ok(Self::Pass),
            false => Ok(Self::Copy(Box::new(masker))),
        }
    }

    /// One row, or one piece of data, as what goes on in its place.
    pub(super) fn mask(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<(), End> {
        match self {
            Self::Mask(masker) => {
                let mut masked = Vec::with_capacity(body.len() + 64);
                let written = masker.row(body, &mut masked);
                written.map_err(|error| End::Withheld(error.to_string()))?;
                put(out, tag, |to| to.extend_from_slice(&masked));
                Ok(())
            }
            Self::Copy(masker) => {
                let mut masked = Vec::with_capacity(body.len() + 64);
                let written = masker.push(body, &mut masked);
                written.map_err(|error| End::Withheld(error.to_string()))?;
                if !masked.is_empty() {
                    put(out, tag, |to| to.extend_from_slice(&masked));
                }
                Ok(())
            }
            Self::Unknown | Self::Pass => Err(End::Withheld("what comes is not known".into())),
        }
    }

    /// The end of the data: what was held back of it.
    pub(super) fn copy_ends(&mut self, out: &mut BytesMut) -> Result<(), End> {
        let Self::Copy(masker) = std::mem::replace(self, Self::Unknown) else {
            return Ok(());
        };
        let mut masked = Vec::new();
        let finished = masker.finish(&mut masked);
        finished.map_err(|error| End::Withheld(error.to_string()))?;
        if !masked.is_empty() {
            put(out, b'd', |to| to.extend_from_slice(&masked));
        }
        Ok(())
    }
}
