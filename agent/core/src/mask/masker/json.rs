//! JSON as it comes, byte by byte: nothing is built, and what is not masked keeps its spelling.

mod escape;
mod frames;
mod long;
mod number;

use zeroize::Zeroizing;

use self::{
    escape::{Ends, Unescape},
    frames::Frames,
    long::Long,
    number::{is_number, scalar_end},
};
use super::{
    super::{Context, StandIn, Whole, names},
    Unreadable, WINDOW, Worker,
};
pub(super) use frames::MAX_DEPTH;

/// The longest number or literal, in bytes.
const MAX_SCALAR: usize = 4096;
/// Numbers with fewer digits are nobody's.
const TELLING_DIGITS: usize = 7;

/// Strings of JSON in strings of JSON that are read as such. What is deeper is looked at as text.
const MAX_NESTED: usize = 4;

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// What the last piece ended in.
enum Part {
    None,
    /// A string whose end is not there yet: its bytes so far are in `carry`.
    String {
        is_key: bool,
    },
    /// One that is longer than is looked at together.
    Long {
        is_key: bool,
        long: Box<Long>,
    },
    /// A number or a literal.
    Scalar,
}

pub(in super::super) struct Json {
    /// How many strings of JSON it is in.
    nested: usize,
    /// Values one after another.
    many: bool,
    frames: Frames,
    expect: Expect,
    part: Part,
    ends: Ends,
    carry: Zeroizing<Vec<u8>>,
    plain: Zeroizing<Vec<u8>>,
    /// Bytes before this piece.
    before: u64,
    /// Bytes of a byte order mark that were seen.
    mark: usize,
}

/// UTF-8's byte order mark.
const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Json {
    pub(in super::super) fn new(many: bool) -> Self {
        Self {
            nested: 0,
            many,
            frames: Frames::default(),
            expect: Expect::Value,
            part: Part::None,
            ends: Ends::default(),
            carry: Zeroizing::default(),
            plain: Zeroizing::default(),
            before: 0,
            mark: 0,
        }
    }

    pub(in super::super) fn push(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let mut at = self.go_on(input, worker, out)?;
        // What is before `from` was given out.
        let mut from = at;
        while let Some(byte) = input.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                b'"' => {
                    let is_key = self.begins_string().ok_or_else(|| self.broken(at))?;
                    let Some(length) = self.ends.find(&input[at + 1..]) else {
                        out.extend_from_slice(&input[from..at]);
                        self.carry.extend_from_slice(&input[at + 1..]);
                        self.part = Part::String { is_key };
                        self.lengthen(worker, out)?;
                        return self.done(input);
                    };
                    let raw = at + 1..at + 1 + length;
                    let after = raw.end + 1;
                    if raw.len() > WINDOW {
                        out.extend_from_slice(&input[from..at]);
                        self.long(&input[raw], is_key, worker, out)?;
                        from = after;
                    } else if let Some(masked) = self
                        .string(&input[raw], is_key, worker)
                        .map_err(|problem| self.at(problem, at))?
                    {
                        out.extend_from_slice(&input[from..at]);
                        out.extend_from_slice(&masked);
                        from = after;
                    }
                    self.ends = Ends::default();
                    self.ended(is_key);
                    at = after;
                }
                b'{' | b'[' | b'}' | b']' | b':' | b',' => {
                    self.structure(*byte, worker)
                        .map_err(|problem| self.at(problem, at))?;
                    at += 1;
                }
                _ if self.is_mark(*byte) => at += 1,
                _ => {
                    if !matches!(self.expect, Expect::Value | Expect::ValueOrEnd) {
                        return Err(self.broken(at));
                    }
                    let Some(length) = scalar_end(&input[at..]) else {
                        out.extend_from_slice(&input[from..at]);
                        self.carry.extend_from_slice(&input[at..]);
                        self.part = Part::Scalar;
                        if self.carry.len() > MAX_SCALAR {
                            return Err(self.broken(at));
                        }
                        return self.done(input);
                    };
                    let raw = at..at + length;
                    if let Some(masked) = self
                        .scalar(&input[raw.clone()], worker)
                        .map_err(|problem| self.at(problem, at))?
                    {
                        out.extend_from_slice(&input[from..at]);
                        out.extend_from_slice(&masked);
                        from = raw.end;
                    }
                    self.ended(false);
                    at = raw.end;
                }
            }
        }
        out.extend_from_slice(&input[from..]);
        self.done(input)
    }

    pub(in super::super) fn finish(
        &mut self,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        if matches!(self.part, Part::Scalar) {
            self.end_scalar(worker, out)?;
        }
        let ended = match self.expect {
            Expect::Nothing => true,
            // Empty, or only values that are over.
            Expect::Value => self.frames.is_empty(),
            _ => false,
        };
        if !ended || !matches!(self.part, Part::None) || !matches!(self.mark, 0 | 3) {
            return Err(self.broken(0));
        }
        Ok(())
    }

    fn done(&mut self, input: &[u8]) -> Result<(), Unreadable> {
        self.before += input.len() as u64;
        Ok(())
    }

    fn broken(&self, at: usize) -> Unreadable {
        Unreadable::Json {
            at: self.before + at as u64,
        }
    }

    fn at(&self, problem: Unreadable, at: usize) -> Unreadable {
        match problem {
            Unreadable::Json { .. } => self.broken(at),
            other => other,
        }
    }

    /// A byte order mark may be at the very beginning.
    fn is_mark(&mut self, byte: u8) -> bool {
        let at_start = self.expect == Expect::Value && self.frames.is_empty() && self.before < 3;
        let is_mark = at_start && MARK.get(self.mark) == Some(&byte);
        self.mark += usize::from(is_mark);
        is_mark
    }

    /// Goes on with what the last piece ended in. Returns how much of `input` that took.
    fn go_on(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<usize, Unreadable> {
        match &self.part {
            Part::None => Ok(0),
            Part::Scalar => {
                let length = scalar_end(input);
                self.carry
                    .extend_from_slice(&input[..length.unwrap_or(input.len())]);
                if self.carry.len() > MAX_SCALAR {
                    return Err(self.broken(0));
                }
                if length.is_some() {
                    self.end_scalar(worker, out)?;
                }
                Ok(length.unwrap_or(input.len()))
            }
            Part::String { .. } | Part::Long { .. } => {
                let end = self.ends.find(input);
                self.carry
                    .extend_from_slice(&input[..end.unwrap_or(input.len())]);
                self.lengthen(worker, out)?;
                let Some(end) = end else {
                    return Ok(input.len());
                };
                self.end_string(worker, out)?;
                Ok(end + 1)
            }
        }
    }

    /// Makes a string that has become long a long one, and gives on what there is of it.
    fn lengthen(&mut self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if let Part::String { is_key } = self.part
            && self.carry.len() > WINDOW
        {
            out.push(b'"');
            let long = Box::new(self.begin_long(is_key, worker));
            self.part = Part::Long { is_key, long };
        }
        if let Part::Long { long, .. } = &mut self.part {
            long.push(&self.carry, worker, out)?;
            self.carry.clear();
        }
        Ok(())
    }

    fn end_string(&mut self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let is_key = match std::mem::replace(&mut self.part, Part::None) {
            Part::Long { is_key, long } => {
                long.finish(worker, out)?;
                out.push(b'"');
                is_key
            }
            Part::String { is_key } => {
                let raw = std::mem::take(&mut self.carry);
                let masked = self
                    .string(&raw, is_key, worker)
                    .map_err(|problem| self.at(problem, 0))?;
                match masked {
                    Some(masked) => out.extend_from_slice(&masked),
                    None => {
                        out.push(b'"');
                        out.extend_from_slice(&raw);
                        out.push(b'"');
                    }
                }
                self.carry = raw;
                is_key
            }
            Part::None | Part::Scalar => unreachable!("only strings are ended here"),
        };
        self.carry.clear();
        self.ends = Ends::default();
        self.ended(is_key);
        Ok(())
    }

    fn end_scalar(&mut self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let raw = std::mem::take(&mut self.carry);
        self.part = Part::None;
        let masked = self
            .scalar(&raw, worker)
            .map_err(|problem| self.at(problem, 0))?;
        out.extend_from_slice(masked.as_deref().unwrap_or(&raw));
        self.ended(false);
        Ok(())
    }

    /// A long string that is there as a whole.
    fn long(
        &mut self,
        raw: &[u8],
        is_key: bool,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        out.push(b'"');
        let mut long = self.begin_long(is_key, worker);
        long.push(raw, worker, out)?;
        long.finish(worker, out)?;
        out.push(b'"');
        Ok(())
    }

    fn begin_long(&mut self, is_key: bool, worker: &Worker) -> Long {
        let mut context = Context::default();
        let mut whole = None;
        if is_key {
            self.frames.key(b"", &worker.set);
        } else {
            whole = self.frames.rule(&worker.set);
            context = self.frames.context();
        }
        Long::new(whole, context)
    }

    /// Whether a string may come, and whether it is a key.
    fn begins_string(&self) -> Option<bool> {
        match self.expect {
            Expect::Key | Expect::KeyOrEnd => Some(true),
            Expect::Value | Expect::ValueOrEnd => Some(false),
            _ => None,
        }
    }

    /// A key or a value is over.
    fn ended(&mut self, is_key: bool) {
        self.expect = if is_key {
            Expect::Colon
        } else if !self.frames.is_empty() {
            Expect::CommaOrEnd
        } else if self.many {
            Expect::Value
        } else {
            Expect::Nothing
        };
    }

    fn structure(&mut self, byte: u8, worker: &Worker) -> Result<(), Unreadable> {
        let is_object = self.frames.is_object();
        self.expect = match (byte, self.expect) {
            (b'{', Expect::Value | Expect::ValueOrEnd) => {
                self.frames.enter(true, &worker.set)?;
                Expect::KeyOrEnd
            }
            (b'[', Expect::Value | Expect::ValueOrEnd) => {
                self.frames.enter(false, &worker.set)?;
                Expect::ValueOrEnd
            }
            (b'}', Expect::KeyOrEnd | Expect::CommaOrEnd) if is_object => return self.leave(),
            (b']', Expect::ValueOrEnd | Expect::CommaOrEnd) if !is_object => return self.leave(),
            (b':', Expect::Colon) => Expect::Value,
            (b',', Expect::CommaOrEnd) if is_object => Expect::Key,
            (b',', Expect::CommaOrEnd) => Expect::Value,
            _ => return Err(self.broken(0)),
        };
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Unreadable> {
        if self.frames.is_empty() {
            return Err(self.broken(0));
        }
        self.frames.leave();
        self.ended(false);
        Ok(())
    }

    /// What stands in place of a string, with its quotes; `None` when it stays.
    fn string(
        &mut self,
        raw: &[u8],
        is_key: bool,
        worker: &mut Worker,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let is_escaped = self.ends.escapes;
        let mut plain = std::mem::take(&mut self.plain);
        let text = if is_escaped {
            plain.clear();
            let mut unescape = Unescape::default();
            unescape.push(raw, &mut plain)?;
            unescape.finish()?;
            plain.as_slice()
        } else {
            escape::check(raw)?;
            raw
        };
        let masked = if is_key {
            self.frames.key(text, &worker.set);
            self.within(text, Context::default(), is_escaped, worker)
        } else {
            self.value(text, is_escaped, worker)
        };
        self.plain = plain;
        Ok(masked)
    }

    fn value(&mut self, text: &[u8], is_escaped: bool, worker: &mut Worker) -> Option<Vec<u8>> {
        self.frames.is_beside(text);
        let rule = self.frames.rule(&worker.set);
        match rule.filter(|what| !what.guessed || names::may_be_secret(self.frames.name(), text)) {
            Some(what) => worker
                .whole(what, text)
                .map(|masked| in_place(what, &masked)),
            None => match self.json_within(text, worker) {
                Some(masked) => self
                    .within(&masked, self.frames.context(), true, worker)
                    .or_else(|| Some(escaped(&masked))),
                None => self.within(text, self.frames.context(), is_escaped, worker),
            },
        }
    }

    /// A string that is JSON itself, masked by the names in it; `None` where it is none, or nothing in it is masked. It is no longer than
    /// [`WINDOW`].
    fn json_within(&self, text: &[u8], worker: &mut Worker) -> Option<Zeroizing<Vec<u8>>> {
        if self.nested == MAX_NESTED || !may_be_json(text) {
            return None;
        }
        let mut json = Self {
            nested: self.nested + 1,
            ..Self::new(false)
        };
        let mut masked = Zeroizing::new(Vec::with_capacity(text.len()));
        json.push(text, worker, &mut masked).ok()?;
        json.finish(worker, &mut masked).ok()?;
        (*masked != text).then_some(masked)
    }

    fn within(
        &self,
        text: &[u8],
        context: Context,
        is_escaped: bool,
        worker: &mut Worker,
    ) -> Option<Vec<u8>> {
        if text.len() < super::super::find::SHORTEST || !worker.look(text, context) {
            return None;
        }
        let mut masked = Vec::with_capacity(text.len() + 2);
        masked.push(b'"');
        worker.write(text, |part, _| match is_escaped {
            true => escape::write(part, &mut masked),
            false => masked.extend_from_slice(part),
        });
        masked.push(b'"');
        Some(masked)
    }

    /// What stands in place of a number; a string, for a mask is none.
    fn scalar(&mut self, raw: &[u8], worker: &mut Worker) -> Result<Option<Vec<u8>>, Unreadable> {
        if matches!(raw, b"true" | b"false" | b"null") {
            return Ok(None);
        }
        if !is_number(raw) {
            return Err(self.broken(0));
        }
        let rule = self.frames.rule(&worker.set);
        if let Some(what) =
            rule.filter(|what| !what.guessed || names::is_password(self.frames.name()))
        {
            return Ok(worker
                .whole(what, raw)
                .map(|masked| in_place(what, &masked)));
        }
        if raw.len() < TELLING_DIGITS {
            return Ok(None);
        }
        Ok(worker
            .within(raw, self.frames.context())
            .map(|masked| quoted(&masked)))
    }
}

/// Whether a text begins and ends like an object or an array.
pub(in super::super) fn may_be_json(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    matches!(
        (text.first(), text.last()),
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']'))
    ) && memchr::memchr(b'"', text).is_some()
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    escape::write(text, &mut out);
    out.push(b'"');
    out
}

fn in_place(what: Whole, masked: &[u8]) -> Vec<u8> {
    match what.stand_in {
        StandIn::Nothing => b"null".to_vec(),
        StandIn::Token | StandIn::Base64 => quoted(masked),
    }
}

fn quoted(masked: &[u8]) -> Vec<u8> {
    [b"\"", masked, b"\""].concat()
}
