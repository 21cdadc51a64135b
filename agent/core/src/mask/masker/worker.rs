//! What every form of body needs: look at a value, write what stands in its place, count.

use std::sync::Arc;

use super::super::{Context, Found, Hit, MaskSet, StandIn, Whole, names, token};

/// A set at work.
pub(in super::super) struct Worker {
    pub(in super::super) set: Arc<MaskSet>,
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

    pub(in super::super) fn found(self) -> Found {
        let detectors = self.set.base.detectors.iter().zip(self.counts);
        let found = detectors.filter(|(_, many)| *many > 0);
        Found(
            found
                .map(|(detector, many)| (detector.name.clone(), many))
                .collect(),
        )
    }

    /// What stands in place of all of `value`; `None` where it is one already.
    pub(in super::super) fn whole(&mut self, what: Whole, value: &[u8]) -> Option<Vec<u8>> {
        if value.is_empty() || token::is_one(value) {
            return None;
        }
        self.counts[usize::from(what.detector)] += 1;
        let mut masked = Vec::new();
        self.set.write_token(what.detector, value, &mut masked);
        Some(dressed(what, masked))
    }

    /// The same of a value of which only the SHA-256 is there.
    pub(super) fn whole_of_digest(&mut self, what: Whole, digest: &[u8; 32]) -> Vec<u8> {
        self.counts[usize::from(what.detector)] += 1;
        let mut masked = Vec::new();
        self.set
            .write_token_of_digest(what.detector, digest, &mut masked);
        dressed(what, masked)
    }

    /// The rule for a value that is called this.
    pub(in super::super) fn rule_for_name(&self, name: &str) -> Option<Whole> {
        let mut plain = Vec::with_capacity(name.len());
        names::normalise(name.as_bytes(), &mut plain);
        let base = &self.set.base;
        let of_column = base
            .columns
            .iter()
            .find(|(column, _)| column.is(name, None));
        let by_column = of_column.map(|(_, detector)| Whole {
            detector: *detector,
            stand_in: StandIn::Token,
            guessed: false,
        });
        by_column
            .or_else(|| base.fields.at(&plain, std::iter::empty()))
            .or_else(|| {
                let detector = base
                    .fields
                    .by_name
                    .filter(|_| names::is_secret_field(&plain))?;
                Some(Whole {
                    detector,
                    stand_in: StandIn::Token,
                    guessed: true,
                })
            })
    }

    /// A number in place of all of `value`.
    pub(in super::super) fn number_for(&mut self, detector: u16, value: &[u8]) -> u64 {
        self.count(detector);
        self.set.number_for(detector, value)
    }

    /// Counts something that was masked; `true`, for it was.
    pub(in super::super) fn count(&mut self, detector: u16) -> bool {
        self.counts[usize::from(detector)] += 1;
        true
    }

    /// `text` with everything in it masked; `None` where there is nothing.
    pub(in super::super) fn within(&mut self, text: &[u8], context: Context) -> Option<Vec<u8>> {
        if !self.look(text, context) {
            return None;
        }
        let mut masked = Vec::with_capacity(text.len());
        self.write(text, |part, _| masked.extend_from_slice(part));
        Some(masked)
    }

    /// Whether there is anything in `text`. [`Self::write`] masks it, [`Self::hits`] are where.
    pub(in super::super) fn look(&mut self, text: &[u8], context: Context) -> bool {
        self.set.find(text, context, &mut self.hits);
        !self.hits.is_empty()
    }

    pub(in super::super) fn hits(&mut self) -> &mut Vec<Hit> {
        &mut self.hits
    }

    /// Gives `text`, which was looked at last, in parts to `emit`: what stays (`false`), and what stands in place of the rest (`true`).
    pub(in super::super) fn write(&mut self, text: &[u8], mut emit: impl FnMut(&[u8], bool)) {
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
        self.within(value, Context::of_value(name))
    }
}

fn dressed(what: Whole, token: Vec<u8>) -> Vec<u8> {
    match what.stand_in {
        StandIn::Token => token,
        StandIn::Base64 => {
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &token).into_bytes()
        }
        StandIn::Nothing => Vec::new(),
    }
}
