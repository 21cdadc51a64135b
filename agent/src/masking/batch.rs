//! The answer to a batch: each part is masked by its own terms.

use std::sync::Arc;

use holdpoint_core::{
    batch::Answers,
    mask::{Form, MaskSet, Masker},
};
use http::{HeaderValue, header};

use super::{Unreadable, answer::masker, headers};

/// Bytes of an answer to a batch: as many as a batch may have.
pub const MOST: usize = 16 << 20;

/// Which sets an answer's parts are masked by.
pub enum Sets<'a> {
    /// Each by that of its question; the names are the questions' ids.
    Each(&'a [Option<Arc<MaskSet>>], &'a [Option<HeaderValue>]),
    /// All by this one.
    All(&'a Arc<MaskSet>),
}

/// The answer, masked. A part that has to be masked and cannot be read is replaced by an error.
///
/// # Errors
/// When the answer cannot be taken apart, or it cannot be told which part is the answer to which question.
pub fn rewrite(content_type: &str, body: &[u8], sets: &Sets<'_>) -> Result<Vec<u8>, Unreadable> {
    let wrong = |why: String| Unreadable::new(format!("the answer to the batch: {why}"));
    let mut answers = Answers::parse(content_type, body).map_err(wrong)?;
    let places = match sets {
        Sets::Each(_, names) => answers.places(names).ok_or_else(|| {
            wrong(
                "it cannot be told which part of it is the answer to which part of the batch"
                    .into(),
            )
        })?,
        Sets::All(_) => vec![0; answers.parts.len()],
    };
    for (part, place) in answers.parts.iter_mut().zip(places) {
        let set = match sets {
            Sets::Each(sets, _) => sets.get(place).and_then(Option::as_ref),
            Sets::All(set) => Some(*set),
        };
        let Some(set) = set else { continue };
        headers::mask(&mut part.headers, set);
        headers::altered(&mut part.headers);
        let is_error = part.status >= 400;
        if let Err(why) = rewrite_part(&part.headers.clone(), &mut part.body, set, is_error) {
            part.status = 403;
            part.body = error(&why);
            let json = HeaderValue::from_static("application/json; charset=UTF-8");
            part.headers.insert(header::CONTENT_TYPE, json);
        }
    }
    answers.serialise().map_err(wrong)
}

fn rewrite_part(
    headers: &http::HeaderMap,
    body: &mut Vec<u8>,
    set: &Arc<MaskSet>,
    is_error: bool,
) -> Result<(), Unreadable> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Unreadable::new("it is compressed"));
    }
    if body.is_empty() {
        return Ok(());
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|it| it.to_str().ok());
    let mut masked = Vec::with_capacity(body.len());
    let mut masker = match is_error {
        true => Masker::new(set.clone(), Form::of(content_type)),
        false => masker(set, content_type)?,
    };
    masker.push(body, &mut masked)?;
    masker.finish(&mut masked)?;
    *body = masked;
    Ok(())
}

fn error(why: &Unreadable) -> Vec<u8> {
    let message =
        format!("Holdpoint withheld this part of the answer, which policy wants masked: {why}.");
    serde_json::json!({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}})
        .to_string()
        .into_bytes()
}
