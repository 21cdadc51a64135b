//! What requests carry out: masked values that come back, and secrets where policy asks for them.

use std::collections::BTreeSet;

use holdpoint_core::{
    contains,
    mask::mask_token_in,
    recognise::{self, Head, Payload},
    refusal::{Kind, Refusal},
};

use super::Masking;
use crate::metrics::metrics;

/// More than a mask token's telling beginning takes in any dress.
const OVERLAP: usize = 64;

/// Refuses what carries a mask token: it would write the token where the value belongs.
///
/// # Errors
/// Then; the text says where it is.
pub fn refuse_returned(head: &Head<'_>, payload: Payload<'_>) -> Result<(), Refusal> {
    let (Payload::Whole(body) | Payload::Beginning(body)) = payload;
    let is_in = |bytes: &[u8]| mask_token_in(bytes).is_some();
    if is_in(body)
        || (head.headers.contains_key(http::header::CONTENT_ENCODING)
            && recognise::decoded(body, head.headers).is_some_and(|body| is_in(&body)))
    {
        return Err(returned("its body"));
    }
    if is_in(head.path.as_bytes()) || is_in(head.query.as_bytes()) {
        return Err(returned("its URL"));
    }
    let header = head
        .headers
        .iter()
        .find(|(_, value)| is_in(value.as_bytes()));
    match header {
        Some((name, _)) => Err(returned(&format!("its header {name}"))),
        None => Ok(()),
    }
}

/// The same, for what databases are asked.
///
/// # Errors
/// Where a mask token is in it.
pub fn refuse_returned_in<'a>(
    place: &str,
    all: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), Refusal> {
    match all.into_iter().any(|it| mask_token_in(it).is_some()) {
        true => Err(returned(place)),
        false => Ok(()),
    }
}

/// What the client is told when a masked value comes back. Counted.
#[must_use]
pub fn returned(place: &str) -> Refusal {
    metrics().mask_token_refused();
    Refusal::new(
        Kind::MaskToken,
        format!(
            "Holdpoint denied this: {place} holds a mask token (\"[masked:...\"), which stands for a value that Holdpoint has masked. \
             Sending it would write the token where the value belongs. Leave that field or column out (an update mask, a patch with only what \
             changes, an UPDATE without it), or have somebody make the change who may see the value."
        ),
    )
}

/// Looks for a mask token in a body that streams.
#[derive(Default)]
pub struct Watch {
    end: Vec<u8>,
}

impl Watch {
    /// One that goes on behind what was looked at already.
    #[must_use]
    pub fn behind(beginning: &[u8]) -> Self {
        let from = beginning.len().saturating_sub(OVERLAP);
        Self {
            end: beginning[from..].to_vec(),
        }
    }

    /// Whether there is one, now that this piece has come.
    pub fn finds_token(&mut self, piece: &[u8]) -> bool {
        let seam = [&self.end[..], &piece[..piece.len().min(OVERLAP)]].concat();
        if mask_token_in(&seam).is_some() || mask_token_in(piece).is_some() {
            return true;
        }
        *self = Self::behind(if piece.len() < OVERLAP { &seam } else { piece });
        false
    }
}

impl Masking {
    /// The kinds of secrets and personal data in a request, for policy.
    #[must_use]
    pub fn contained(&self, head: &Head<'_>, payload: Payload<'_>) -> BTreeSet<String> {
        contains::found_in(&self.searched, head, payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_found_wherever_pieces_end(
            before in 0..300_usize, after in 0..100_usize, read in 0..200_usize, piece in 1..200_usize,
        ) {
            let body = [&vec![b'x'; before][..], b"[masked:jwt]", &vec![b'x'; after]].concat();
            let (beginning, rest) = body.split_at(read.min(body.len()));
            let mut watch = Watch::behind(beginning);
            let found = rest.chunks(piece).any(|piece| watch.finds_token(piece));
            prop_assert!(found || mask_token_in(beginning).is_some());
            let mut watch = Watch::default();
            prop_assert!(!rest[..0].chunks(piece).any(|piece| watch.finds_token(piece)));
        }
    }
}
