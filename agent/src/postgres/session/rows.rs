//! What becomes of rows on their way to the client.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    mask::{
        MaskSet, Origin,
        rows::{Column, RowMasker},
    },
    sql::{Copy, Name},
};

use super::End;
use crate::postgres::{frame::put, server_messages::Described};

/// Who knows which column of which relation a result's column is.
pub(super) trait Columns: Sync {
    /// In the order asked; none where nobody knows.
    fn origins(
        &self,
        asked: &[(u32, i16)],
    ) -> impl Future<Output = Vec<Option<(Name, String)>>> + Send;
}

/// What is done with rows, or the data of a COPY.
pub(super) enum Rows {
    /// Nothing has said what comes.
    Unknown,
    /// They go on unread.
    Pass,
    Mask(Box<RowMasker>),
}

impl Rows {
    /// Rows with these columns, of this statement.
    pub(super) async fn of(
        set: Arc<MaskSet>,
        described: Vec<Described>,
        statement: Option<&str>,
        columns: &impl Columns,
    ) -> Self {
        let asked: Vec<_> = described
            .iter()
            .filter(|it| it.table != 0)
            .map(|it| (it.table, it.attribute))
            .collect();
        let mut origins = match asked.is_empty() {
            true => Vec::new(),
            false => columns.origins(&asked).await,
        }
        .into_iter();
        let columns: Vec<_> = described
            .into_iter()
            .map(|it| Column {
                origin: match it.table {
                    0 => None,
                    _ => origins
                        .next()
                        .flatten()
                        .map(|(relation, attribute)| Origin {
                            schema: relation.schema,
                            relation: relation.name,
                            attribute,
                        }),
                },
                name: it.name,
                type_oid: it.type_oid,
                format: it.format,
            })
            .collect();
        let masker = RowMasker::new(set, &columns, statement);
        match masker.is_idle() {
            true => Self::Pass,
            false => Self::Mask(Box::new(masker)),
        }
    }

    /// The data of a `COPY ... TO STDOUT`, as its CopyOutResponse describes it.
    pub(super) fn of_copy(
        set: Arc<MaskSet>,
        copying: Option<&Copy>,
        described: &[u8],
    ) -> Result<Self, End> {
        let _ = (set, copying, described);
        Err(End::Withheld(
            "the data of a COPY has to be masked; SELECT the rows instead".into(),
        ))
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
            Self::Unknown | Self::Pass => Err(End::Withheld("what comes is not known".into())),
        }
    }

    /// The end of the data: what was held back of it.
    pub(super) fn copy_ends(&mut self) -> Result<Bytes, End> {
        Ok(Bytes::new())
    }
}
