//! What the server says of a statement whose rows are masked: the text of an error may quote a value (`invalid input syntax for type
//! integer: "..."`), and is masked as what the statement computes.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use holdpoint_core::mask::rows::{Column, RowMasker};

use super::{End, run::Run};
use crate::postgres::{
    frame::{Fields, FrameError, HEAD, put, put_text},
    server_messages::field,
};

/// What is said of data: message, detail, hint, context, internal query ("Error and Notice Message Fields" in PostgreSQL's manual).
const TEXTS: [u8; 5] = [b'M', b'D', b'H', b'W', b'q'];
/// Classes of errors that are about no value ("PostgreSQL Error Codes"): transactions, resources, operators.
const ABOUT_NO_VALUE: [&str; 4] = ["25", "40", "53", "57"];
/// `text` in pg_type.
const TEXT: u32 = 25;

/// An ErrorResponse or NoticeResponse as the client may read it.
pub(super) fn told(run: &Run, whole: &Bytes) -> Result<Bytes, End> {
    let body = &whole[HEAD..];
    let Some(set) = &run.admitted.masks else {
        return Ok(whole.clone());
    };
    let code = field(body, b'C')?.unwrap_or_default();
    // With a position in the statement, a name or a type is wrong: it was not run.
    let is_of_the_text = code.starts_with("42") && field(body, b'P')?.is_some();
    if is_of_the_text || ABOUT_NO_VALUE.iter().any(|class| code.starts_with(class)) {
        return Ok(whole.clone());
    }
    let column = Column {
        name: String::new(),
        origin: None,
        type_oid: TEXT,
        format: 0,
    };
    let mut masker = RowMasker::new(set.clone(), &[column], run.text().as_deref());
    if masker.is_idle() {
        return Ok(whole.clone());
    }
    let mut masked = |text: &str| -> Option<String> {
        let mut row = vec![0, 1];
        row.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
        row.extend_from_slice(text.as_bytes());
        let mut out = Vec::new();
        masker.row(&row, &mut out).ok()?;
        Some(String::from_utf8_lossy(out.get(6..)?).into_owned())
    };
    let mut out = BytesMut::new();
    let mut read = || -> Result<(), FrameError> {
        let mut fields = Fields(body);
        let mut texts = Vec::new();
        loop {
            let kind = fields.byte()?;
            if kind == 0 {
                break;
            }
            let text = String::from_utf8_lossy(fields.c_string()?);
            let text = match TEXTS.contains(&kind) {
                true => Cow::Owned(masked(&text).unwrap_or_else(|| "[masked]".to_owned())),
                false => text,
            };
            texts.push((kind, text));
        }
        put(&mut out, whole[0], |to| {
            for (kind, text) in &texts {
                to.extend_from_slice(&[*kind]);
                put_text(to, text);
            }
            to.extend_from_slice(&[0]);
        });
        Ok(())
    };
    read()?;
    Ok(out.freeze())
}
