//! What every form of body needs: look at a value, write what stands in its place, count.

use std::sync::Arc;

use super::super::{Context, Found, Hint, Hit, MaskSet, Whole, names, token};

/// A set at work.
pub(in super::super) struct Worker {
    pub(super) set: Arc<MaskSet>,
    hits: Vec<Hit>,
    counts: Vec<u64>,
}

impl Worker {
    pub(in super::super) fn new(set: Arc<MaskSet>) -> Self {
        Self {
            counts: vec![0; set.base.detectors.len()],
            hits: Vec::new(),
            set,
        }
    }

    pub(super) fn found(self) -> Found {
        let detectors = self.set.base.detectors.iter().zip(self.counts);
        let found = detectors.filter(|(_, many)| *many > 0);
        Found(
            found
                .map(|(detector, many)| (detector.name.clone(), many))
                .collect(),
        )
    }

    /// What stands in place of all of `value`; `None` where it is one already.
    pub(super) fn whole(&mut self, what: Whole, value: &[u8]) -> Option<Vec<u8>> {
        if value.is_empty() || token::is_one(value) {
            return None;
        }
        self.counts[usize::from(what.detector)] += 1;
        let mut masked = Vec::new();
        self.set.write_token(what.detector, value, &mut masked);
        if what.bytes {
            let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &masked);
            return Some(encoded.into_bytes());
        }
        Some(masked)
    }

    /// `text` with everything in it masked; `None` where there is nothing.
    pub(super) fn within(&mut self, text: &[u8], context: Context) -> Option<Vec<u8>> {
        if !self.look(text, context) {
            return None;
        }
        let mut masked = Vec::with_capacity(text.len());
        self.write(text, |part, _| masked.extend_from_slice(part));
        Some(masked)
    }

    /// Whether there is anything in `text`. [`Self::write`] masks it, [`Self::hits`] are where.
    pub(super) fn look(&mut self, text: &[u8], context: Context) -> bool {
        self.set.find(text, context, &mut self.hits);
        !self.hits.is_empty()
    }

    pub(super) fn hits(&mut self) -> &mut Vec<Hit> {
        &mut self.hits
    }

    /// Gives `text`, which was looked at last, in parts to `emit`: what stays (`false`), and what stands in place of the rest (`true`).
    pub(super) fn write(&mut self, text: &[u8], mut emit: impl FnMut(&[u8], bool)) {
        let mut from = 0;
        let mut masked = Vec::new();
        for hit in &self.hits {
            emit(&text[from..hit.at.start], false);
            masked.clear();
            self.set
                .write_token(hit.detector, &text[hit.at.clone()], &mut masked);
            self.counts[usize::from(hit.detector)] += 1;
            emit(&masked, true);
            from = hit.at.end;
        }
        emit(&text[from..], false);
    }

    /// A header's, parameter's or column's value; `None` where it stays.
    pub(in super::super) fn value(&mut self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        if let Some(what) = self.set.base.fields.named(name) {
            return self.whole(what, value);
        }
        let mut plain = Vec::with_capacity(name.len());
        names::normalise(name.as_bytes(), &mut plain);
        let context = Context {
            hint: Hint::of(&plain),
            prose: false,
        };
        self.within(value, context)
    }
}
