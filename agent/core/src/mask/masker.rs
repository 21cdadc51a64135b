//! Bodies in pieces, in and out.

mod form;
mod head;
mod json;
mod multipart;
mod protobuf;
mod stretch;
mod text;
mod worker;
mod xml;

use std::{collections::BTreeMap, sync::Arc};

pub(super) use json::{Json, may_be_json};
pub(super) use worker::Worker;

use super::{Form, MaskSet};

/// How much of one value, line or message head is looked at together, in bytes. What is longer is looked at in stretches of this length
/// that overlap by [`OVERLAP`].
pub(super) const WINDOW: usize = 64 << 10;
/// How long what is found across two stretches may be, in bytes. What is longer, and goes on, takes all of the rest of its value with it.
const OVERLAP: usize = 16 << 10;

/// The longest form's pair, XML tag or text, in bytes: these are looked at together, or not at all.
const LONGEST: usize = 1 << 20;

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
    /// Not the XML it says it is, or one with a document type.
    #[error("it is not XML that can be read")]
    Xml,
    /// Not protobuf.
    #[error("it is not a protobuf message")]
    Protobuf,
    /// A gRPC message that is compressed.
    #[error("its gRPC messages are compressed")]
    Compressed,
    /// Not the multipart it says it is.
    #[error("it is not a multipart body that can be read")]
    Multipart,
    /// A message, or a part of one, that is too long to be looked at.
    #[error("a message or a value in it is too long")]
    TooLong,
    /// Not the row, or not the value of its type, that the server announced.
    #[error("a row of it is not what its description says")]
    Row,
    /// A value that has to be masked, of a type of which Holdpoint can make none.
    #[error(
        "a value has to be masked whose type (OID {0}) Holdpoint cannot write in binary: cast it to text in the statement, or ask for text"
    )]
    Unmaskable(u32),
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
    Json(Box<Json>),
    Text(text::Text),
    UrlEncoded(form::Pairs),
    Xml(Box<xml::Xml>),
    Protobuf(protobuf::Messages),
    Multipart(Box<multipart::Multipart>),
    Http(Box<multipart::Http>),
    Opaque,
}

impl Masker {
    /// A masker for one body.
    #[must_use]
    pub fn new(set: Arc<MaskSet>, form: Form) -> Self {
        Self {
            worker: Worker::new(set),
            reading: Reading::new(form, 0),
            broken: None,
        }
    }

    /// One for a body within `nested` others.
    fn nested(set: Arc<MaskSet>, form: Form, nested: usize) -> Result<Self, Unreadable> {
        if nested > multipart::MAX_NESTED {
            return Err(Unreadable::TooDeep);
        }
        Ok(Self {
            worker: Worker::new(set),
            reading: Reading::new(form, nested),
            broken: None,
        })
    }

    fn is_opaque(&self) -> bool {
        matches!(self.reading, Reading::Opaque)
    }

    /// Takes the next piece, and adds what is masked to `out`. Some of it may be held back until more is known.
    ///
    /// # Errors
    /// When the body cannot be read; from then on always.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let worker = &mut self.worker;
        let done = match &mut self.reading {
            Reading::Json(json) => json.push(input, worker, out),
            Reading::Text(text) => text.push(input, worker, out),
            Reading::UrlEncoded(pairs) => pairs.push(input, worker, out),
            Reading::Xml(xml) => xml.push(input, worker, out),
            Reading::Protobuf(messages) => messages.push(input, worker, out),
            Reading::Multipart(multipart) => multipart.push(input, worker, out),
            Reading::Http(http) => http.push(input, worker, out),
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
        let worker = &mut self.worker;
        let mut found = Found::default();
        match self.reading {
            Reading::Json(mut json) => json.finish(worker, out)?,
            Reading::Text(mut text) => text.finish(worker, out),
            Reading::UrlEncoded(mut pairs) => pairs.finish(worker, out),
            Reading::Xml(mut xml) => xml.finish(worker, out)?,
            Reading::Protobuf(mut messages) => messages.finish(worker, out)?,
            Reading::Multipart(multipart) => found = multipart.finish(out)?,
            Reading::Http(http) => found = http.finish(out)?,
            Reading::Opaque => {}
        }
        found.add(self.worker.found());
        Ok(found)
    }
}

impl Reading {
    fn new(form: Form, nested: usize) -> Self {
        match form {
            Form::Json => Self::Json(Box::new(Json::new(false))),
            Form::JsonLines => Self::Json(Box::new(Json::new(true))),
            Form::Text => Self::Text(text::Text::default()),
            Form::UrlEncoded => Self::UrlEncoded(form::Pairs::default()),
            Form::Xml => Self::Xml(Box::default()),
            Form::Protobuf => Self::Protobuf(protobuf::Messages::new(false)),
            Form::Grpc => Self::Protobuf(protobuf::Messages::new(true)),
            Form::Multipart { boundary } => {
                Self::Multipart(Box::new(multipart::Multipart::new(&boundary, nested)))
            }
            Form::Http => Self::Http(Box::new(multipart::Http::new(nested))),
            Form::Opaque => Self::Opaque,
        }
    }
}
