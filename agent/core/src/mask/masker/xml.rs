//! XML, element by element.

use std::ops::Range;

use memchr::memmem;
use zeroize::Zeroizing;

use super::{
    super::{Context, Hint, StandIn, Whole, names},
    LONGEST, Unreadable, Worker,
};

/// How deep elements may be nested.
const MAX_DEPTH: usize = 256;

/// Tag by tag; each, and each text between them, is held until it is all there.
#[derive(Default)]
pub(super) struct Xml {
    carry: Zeroizing<Vec<u8>>,
    /// Nothing up to here ends what is held.
    looked: usize,
    elements: Vec<Element>,
    /// The (normalised) names of `elements`.
    names: Vec<u8>,
}

struct Element {
    name: Range<usize>,
    what: Option<Whole>,
    hint: Hint,
}

/// What is held.
enum Kind {
    Text,
    /// What passes as it is but for what is in it: comments, character data, processing instructions.
    Verbatim(&'static [u8]),
    Tag,
}

const BROKEN: Unreadable = Unreadable::Xml;

impl Xml {
    pub(super) fn push(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        // UTF-16 would be read as something else than it is.
        if memchr::memchr(0, input).is_some() {
            return Err(Unreadable::Encoding);
        }
        for piece in input.chunks(LONGEST) {
            self.carry.extend_from_slice(piece);
            let held = std::mem::take(&mut self.carry);
            let mut at = 0;
            while let Some(length) = self.token(&held[at..])? {
                self.give(&held[at..at + length], worker, out)?;
                at += length;
                self.looked = 0;
            }
            self.carry.extend_from_slice(&held[at..]);
            if self.carry.len() > LONGEST {
                return Err(Unreadable::TooLong);
            }
        }
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let rest = std::mem::take(&mut self.carry);
        if !self.elements.is_empty() || rest.starts_with(b"<") {
            return Err(BROKEN);
        }
        self.text(&rest, worker, out)
    }

    /// The length of the tag or text that `held` begins with, if it is all there.
    fn token(&mut self, held: &[u8]) -> Result<Option<usize>, Unreadable> {
        let Some(kind) = kind(held)? else {
            return Ok(None);
        };
        let from = self.looked;
        let end = match kind {
            Kind::Text => memchr::memchr(b'<', &held[from..]).map(|at| from + at),
            Kind::Verbatim(end) => {
                // What ends it does not lie within what begins it: `<!-->` is no comment.
                let begin = if held.starts_with(b"<?") {
                    2
                } else {
                    end.len() + 1
                };
                let from = from.saturating_sub(end.len()).max(begin);
                held.get(from..)
                    .and_then(|rest| memmem::find(rest, end))
                    .map(|at| from + at + end.len())
            }
            Kind::Tag => tag_end(held),
        };
        if end.is_none() && !matches!(kind, Kind::Tag) {
            self.looked = held.len();
        }
        Ok(end)
    }

    fn give(
        &mut self,
        token: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        match kind(token)? {
            Some(Kind::Text) => self.text(token, worker, out),
            Some(Kind::Verbatim(_)) if token.starts_with(CDATA) => {
                let text = &token[CDATA.len()..token.len() - 3];
                out.extend_from_slice(CDATA);
                out.extend_from_slice(self.masked(text, worker).as_deref().unwrap_or(text));
                out.extend_from_slice(b"]]>");
                Ok(())
            }
            Some(Kind::Verbatim(_)) => {
                let masked = worker.within(token, Context::default());
                out.extend_from_slice(masked.as_deref().unwrap_or(token));
                Ok(())
            }
            _ => self.tag(token, worker, out),
        }
    }

    fn text(&self, raw: &[u8], worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let plain = unescaped(raw)?;
        match self.masked(&plain, worker) {
            Some(masked) => escape(&masked, out),
            None => out.extend_from_slice(raw),
        }
        Ok(())
    }

    /// An element's text, masked for where it is or for what is in it.
    fn masked(&self, text: &[u8], worker: &mut Worker) -> Option<Vec<u8>> {
        let Some(element) = self.elements.last() else {
            return worker.within(text, Context::default());
        };
        let trimmed = text.trim_ascii();
        let name = &self.names[element.name.clone()];
        match element.what {
            Some(what) if !what.guessed || names::may_be_secret(name, trimmed) => {
                worker.whole(what, trimmed)
            }
            _ => {
                let context = Context {
                    hint: element.hint,
                    prose: false,
                };
                worker.within(text, context)
            }
        }
    }

    fn tag(
        &mut self,
        tag: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let inner = &tag[1..tag.len() - 1];
        if let Some(name) = inner.strip_prefix(b"/") {
            let mut plain = Vec::new();
            names::normalise(local(name.trim_ascii_end()), &mut plain);
            let element = self.elements.pop().ok_or(BROKEN)?;
            if self.names[element.name.clone()] != plain[..] {
                return Err(BROKEN);
            }
            self.names.truncate(element.name.start);
            out.extend_from_slice(tag);
            return Ok(());
        }
        let (inner, is_empty) = match inner.strip_suffix(b"/") {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        let name_end = inner
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(inner.len());
        let name = &inner[..name_end];
        if name.is_empty() || worker.look(name, Context::default()) {
            return Err(BROKEN);
        }
        out.push(b'<');
        out.extend_from_slice(name);
        attributes(&inner[name_end..], worker, out)?;
        out.extend_from_slice(if is_empty { b"/>" } else { b">" });
        if !is_empty {
            self.enter(local(name), worker)?;
        }
        Ok(())
    }

    fn enter(&mut self, name: &[u8], worker: &Worker) -> Result<(), Unreadable> {
        if self.elements.len() == MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        let start = self.names.len();
        names::normalise(name, &mut self.names);
        let name = &self.names[start..];
        let inherited = self
            .elements
            .last()
            .and_then(|element| element.what)
            .filter(|what| !what.guessed);
        let fields = &worker.set.base.fields;
        let above = self
            .elements
            .iter()
            .rev()
            .map(|element| &self.names[element.name.clone()]);
        let by_name = || {
            let detector = fields.by_name.filter(|_| names::is_secret_field(name))?;
            Some(Whole {
                detector,
                stand_in: StandIn::Token,
                guessed: true,
            })
        };
        let what = inherited
            .or_else(|| fields.at(name, above))
            .or_else(by_name);
        let hint = Hint::of(name);
        self.elements.push(Element {
            name: start..self.names.len(),
            what,
            hint,
        });
        Ok(())
    }
}

const CDATA: &[u8] = b"<![CDATA[";
const COMMENT: &[u8] = b"<!--";

/// What `held` is the beginning of; `None` when that cannot be said yet.
fn kind(held: &[u8]) -> Result<Option<Kind>, Unreadable> {
    Ok(Some(match held {
        [] | [b'<'] => return Ok(None),
        [b'<', b'?', ..] => {
            let is_foreign = held.ends_with(b"?>") && declares_foreign_encoding(held);
            if is_foreign {
                return Err(Unreadable::Encoding);
            }
            Kind::Verbatim(b"?>")
        }
        [b'<', b'!', ..] if held.starts_with(COMMENT) => Kind::Verbatim(b"-->"),
        [b'<', b'!', ..] if held.starts_with(CDATA) => Kind::Verbatim(b"]]>"),
        [b'<', b'!', ..] if COMMENT.starts_with(held) || CDATA.starts_with(held) => {
            return Ok(None);
        }
        // A document type may define entities.
        [b'<', b'!', ..] => return Err(BROKEN),
        [b'<', ..] => Kind::Tag,
        _ => Kind::Text,
    }))
}

/// `<?xml encoding="..."?>` of something other than UTF-8 or ASCII.
fn declares_foreign_encoding(declaration: &[u8]) -> bool {
    let lower = declaration.to_ascii_lowercase();
    if !lower.starts_with(b"<?xml ") {
        return false;
    }
    memmem::find(&lower, b"encoding").is_some_and(|at| {
        memmem::find(&lower[at..], b"utf-8").is_none()
            && memmem::find(&lower[at..], b"ascii").is_none()
    })
}

/// Where a tag ends: not in an attribute's value.
fn tag_end(held: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr3(b'>', b'"', b'\'', held.get(at..)?)?;
        let byte = held[at];
        at += 1;
        if byte == b'>' {
            return Some(at);
        }
        at += memchr::memchr(byte, &held[at..])? + 1;
    }
}

/// A name without its namespace's prefix.
fn local(name: &[u8]) -> &[u8] {
    memchr::memrchr(b':', name).map_or(name, |colon| &name[colon + 1..])
}

fn attributes(mut raw: &[u8], worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    while !raw.trim_ascii().is_empty() {
        let equals = memchr::memchr(b'=', raw).ok_or(BROKEN)?;
        let name = raw[..equals].trim_ascii();
        let value = raw[equals + 1..].trim_ascii_start();
        let quote = *value
            .first()
            .filter(|byte| matches!(byte, b'"' | b'\''))
            .ok_or(BROKEN)?;
        let end = memchr::memchr(quote, &value[1..]).ok_or(BROKEN)?;
        if worker.look(name, Context::default()) {
            return Err(BROKEN);
        }
        let plain = unescaped(&value[1..=end])?;
        match worker.value(&String::from_utf8_lossy(local(name)), &plain) {
            Some(masked) => {
                out.extend_from_slice(&raw[..=equals]);
                out.push(quote);
                escape(&masked, out);
                out.push(quote);
            }
            None => out.extend_from_slice(&raw[..raw.len() - value.len() + end + 2]),
        }
        raw = &value[end + 2..];
    }
    out.extend_from_slice(raw);
    Ok(())
}

/// Text without references (XML 1.0, sections 4.1 and 4.6).
fn unescaped(raw: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let mut plain = Zeroizing::new(Vec::with_capacity(raw.len()));
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'&', rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let end = memchr::memchr(b';', &rest[..rest.len().min(12)]).ok_or(BROKEN)?;
        let character = match &rest[..end] {
            b"lt" => '<',
            b"gt" => '>',
            b"amp" => '&',
            b"quot" => '"',
            b"apos" => '\'',
            reference => numbered(reference).ok_or(BROKEN)?,
        };
        plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[end + 1..];
    }
    plain.extend_from_slice(rest);
    Ok(plain)
}

fn numbered(reference: &[u8]) -> Option<char> {
    let number = std::str::from_utf8(reference.strip_prefix(b"#")?).ok()?;
    let number = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(number.ok()?)
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&apos;"),
            other => out.push(*other),
        }
    }
}
