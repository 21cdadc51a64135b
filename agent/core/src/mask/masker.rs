//! Bodies in pieces, in and out.

mod json;
mod stretch;
mod text;
mod worker;

use std::{collections::BTreeMap, sync::Arc};

pub(super) use worker::Worker;

use super::{Form, MaskSet};

/// How much of one value, line or message head is looked at together, in bytes. What is longer is looked at in stretches of this length
/// that overlap by [`OVERLAP`].
const WINDOW: usize = 64 << 10;
/// How long what is found across two stretches may be, in bytes. What is longer, and goes on, takes all of the rest of its value with it.
const OVERLAP: usize = 16 << 10;

/// How many of each detector were found, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found(pub BTreeMap<Arc<str>, u64>);

impl Found {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Self) {
        for (name, many) in other.0 {
            *self.0.entry(name).or_default() += many;
        }
    }
}

/// Why a body cannot be read. What was given out before is masked; the rest has to be withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not the JSON it says it is.
    #[error("it is not valid JSON (byte {at})")]
    Json {
        /// Where in the body, in bytes.
        at: u64,
    },
    /// Objects and arrays within one another.
    #[error("it is nested more than {} deep", json::MAX_DEPTH)]
    TooDeep,
    /// Bytes that are not in the encoding they have to be in.
    #[error("it is not UTF-8 text")]
    Encoding,
    /// Nothing that Holdpoint reads.
    #[error("its content type is not one that can be read")]
    Opaque,
}

/// Masks one body. Memory: about three times [`WINDOW`] (64 KiB), whatever the body's size; a protobuf message is held as a whole.
pub struct Masker {
    worker: Worker,
    reading: Reading,
    broken: Option<Unreadable>,
}

enum Reading {
    Json(Box<json::Json>),
    Text(text::Text),
    Opaque,
}

impl Masker {
    /// A masker for one body.
    #[must_use]
    pub fn new(set: Arc<MaskSet>, form: Form) -> Self {
        let reading = match form {
            Form::Json => Reading::Json(Box::new(json::Json::new(false))),
            Form::JsonLines => Reading::Json(Box::new(json::Json::new(true))),
            Form::Text => Reading::Text(text::Text::default()),
            _ => Reading::Opaque,
        };
        Self {
            worker: Worker::new(set),
            reading,
            broken: None,
        }
    }

    /// Takes the next piece, and adds what is masked to `out`. Some of it may be held back until more is known.
    ///
    /// # Errors
    /// When the body cannot be read; from then on always.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let done = match &mut self.reading {
            Reading::Json(json) => json.push(input, &mut self.worker, out),
            Reading::Text(text) => text.push(input, &mut self.worker, out),
            Reading::Opaque if input.is_empty() => Ok(()),
            Reading::Opaque => Err(Unreadable::Opaque),
        };
        self.broken = done.err();
        done
    }

    /// The end of the body: adds the rest.
    ///
    /// # Errors
    /// When the body cannot be read, or is not all there.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Found, Unreadable> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        match &mut self.reading {
            Reading::Json(json) => json.finish(&mut self.worker, out)?,
            Reading::Text(text) => text.finish(&mut self.worker, out),
            Reading::Opaque => {}
        }
        Ok(self.worker.found())
    }
}
