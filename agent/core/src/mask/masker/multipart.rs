//! Parts (RFC 2046), each with a head and a form of its own.

use zeroize::Zeroizing;

use super::{
    super::Found,
    Masker, Unreadable, Worker,
    head::{About, Head},
    stretch::WholeValue,
};

/// Multiparts and HTTP messages within one another.
pub(super) const MAX_NESTED: usize = 4;

/// One HTTP message: a head, and a body by its content type.
pub(super) struct Http {
    nested: usize,
    state: HttpState,
}

enum HttpState {
    Head(Head),
    Body(Box<Masker>),
}

impl Http {
    pub(super) fn new(nested: usize) -> Self {
        Self {
            nested,
            state: HttpState::Head(Head::of_http()),
        }
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let mut at = 0;
        if let HttpState::Head(head) = &mut self.state {
            while at < input.len() {
                let about = head.push(input[at], worker, out)?;
                at += 1;
                if let Some(about) = about {
                    let masker = Masker::nested(worker.set.clone(), about.form, self.nested + 1)?;
                    self.state = HttpState::Body(Box::new(masker));
                    break;
                }
            }
        }
        match &mut self.state {
            // Batches end their parts with an empty line, whether there is a body or not.
            HttpState::Body(body) if body.is_opaque() && input[at..].trim_ascii().is_empty() => {
                out.extend_from_slice(&input[at..]);
                Ok(())
            }
            HttpState::Body(body) => body.push(&input[at..], out),
            HttpState::Head(_) => Ok(()),
        }
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<Found, Unreadable> {
        match self.state {
            HttpState::Body(body) => body.finish(out),
            // Some leave the empty line out where there is no body.
            HttpState::Head(head) if head.is_between_lines() => Ok(Found::default()),
            HttpState::Head(_) => Err(Unreadable::Multipart),
        }
    }
}

/// A multipart body.
pub(super) struct Multipart {
    /// A line's end, two hyphens, the boundary.
    delimiter: Vec<u8>,
    nested: usize,
    /// What may be the beginning of a delimiter.
    carry: Zeroizing<Vec<u8>>,
    state: State,
    /// The first byte of `carry` is not the body's: a delimiter may be where no line has ended.
    assumed: bool,
    found: Found,
}

enum State {
    /// Before the first part there is nothing.
    Start,
    /// Behind a delimiter, on its line.
    Line,
    Head(Head),
    Content(Box<Masker>),
    /// A form's field that is masked as a whole.
    Whole(WholeValue),
    /// Behind the last part there is nothing.
    End,
}

impl Multipart {
    pub(super) fn new(boundary: &str, nested: usize) -> Self {
        Self {
            delimiter: format!("\n--{boundary}").into_bytes(),
            nested,
            // The first delimiter may be at the very start, as if a line had ended before it.
            carry: Zeroizing::new(b"\n".to_vec()),
            state: State::Start,
            assumed: true,
            found: Found::default(),
        }
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let mut at = 0;
        while at < input.len() {
            match &mut self.state {
                State::Start | State::Content(_) | State::Whole(_) => {
                    at += self.content(&input[at..], worker, out)?
                }
                State::Line => {
                    self.line(input[at], out)?;
                    at += 1;
                }
                State::Head(head) => {
                    let about = head.push(input[at], worker, out)?;
                    at += 1;
                    if let Some(about) = about {
                        self.begin(about, worker)?;
                    }
                }
                State::End => {
                    if !input[at].is_ascii_whitespace() {
                        return Err(Unreadable::Multipart);
                    }
                    out.push(input[at]);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, about: About, worker: &Worker) -> Result<(), Unreadable> {
        self.carry.clear();
        // An empty part's delimiter comes right after its head.
        self.carry.push(b'\n');
        self.assumed = true;
        self.state = match about.what {
            Some(what) => State::Whole(WholeValue::new(what)),
            None => State::Content(Box::new(Masker::nested(
                worker.set.clone(),
                about.form,
                self.nested + 1,
            )?)),
        };
        Ok(())
    }

    /// The rest of a delimiter's line: nothing, or two hyphens after the last part.
    fn line(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(byte);
        match (byte, self.carry.as_slice()) {
            (b'-', b"" | b"-") => self.carry.push(b'-'),
            (b' ' | b'\t' | b'\r', b"" | b"--") => {}
            (b'\n', b"") => self.state = State::Head(Head::of_part()),
            (b'\n', b"--") => self.state = State::End,
            _ => return Err(Unreadable::Multipart),
        }
        Ok(())
    }

    /// Gives on what is no delimiter. Returns how much it took.
    fn content(
        &mut self,
        input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<usize, Unreadable> {
        let held = self.carry.len();
        self.carry.extend_from_slice(input);
        let joined = std::mem::take(&mut self.carry);
        let found = memchr::memmem::find(&joined, &self.delimiter);
        // The line's end before a delimiter is the delimiter's. What may be the beginning of one is kept.
        let end = match found {
            Some(at) => at - usize::from(at > 0 && joined[at - 1] == b'\r'),
            None => joined.len().saturating_sub(self.delimiter.len()),
        };
        let is_over = found.is_some() || end > 0;
        let start = usize::from(is_over && std::mem::replace(&mut self.assumed, false));
        self.give(&joined[start.min(end)..end], out)?;
        let Some(at) = found else {
            self.carry.extend_from_slice(&joined[end..]);
            return Ok(input.len());
        };
        self.end_part(worker, out)?;
        let after = at + self.delimiter.len();
        out.extend_from_slice(&joined[end.max(start)..after]);
        self.state = State::Line;
        Ok(after - held)
    }

    fn give(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match &mut self.state {
            State::Content(masker) => masker.push(content, out),
            State::Whole(whole) => {
                whole.push(content);
                Ok(())
            }
            _ if content.trim_ascii().is_empty() => {
                out.extend_from_slice(content);
                Ok(())
            }
            _ => Err(Unreadable::Multipart),
        }
    }

    fn end_part(&mut self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match std::mem::replace(&mut self.state, State::Line) {
            State::Content(masker) => self.found.add(masker.finish(out)?),
            State::Whole(whole) => out.extend_from_slice(&whole.finish(worker)),
            _ => {}
        }
        Ok(())
    }

    /// # Errors
    /// When the last delimiter is missing.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<Found, Unreadable> {
        match self.state {
            State::End => Ok(self.found),
            // `--` may be the very last of a body.
            State::Line if self.carry.as_slice() == b"--" => Ok(self.found),
            State::Start if self.carry.trim_ascii().is_empty() => {
                out.extend_from_slice(&self.carry[usize::from(self.assumed)..]);
                Ok(self.found)
            }
            _ => Err(Unreadable::Multipart),
        }
    }
}
