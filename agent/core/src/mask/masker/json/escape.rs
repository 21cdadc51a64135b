//! Strings' escapes (RFC 8259, section 7).

use super::super::Unreadable;

const BROKEN: Unreadable = Unreadable::Json { at: 0 };

/// Finds a string's end, over pieces.
#[derive(Default)]
pub(super) struct Ends {
    /// The next byte is escaped.
    skip: bool,
    /// There was an escape.
    pub(super) escapes: bool,
}

impl Ends {
    /// Where the closing quote is.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.skip && !bytes.is_empty() {
            self.skip = false;
            at = 1;
        }
        while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..)?) {
            at += found;
            if bytes[at] == b'"' {
                return Some(at);
            }
            self.escapes = true;
            at += 2;
            if at > bytes.len() {
                self.skip = true;
            }
        }
        None
    }
}

/// Whether a string without escapes is UTF-8 and has no control characters.
pub(super) fn check(raw: &[u8]) -> Result<(), Unreadable> {
    // One pass that the compiler vectorises; texts are mostly ASCII.
    let (low, high) = raw.iter().fold((0xff_u8, 0_u8), |(low, high), byte| {
        (low.min(*byte), high | byte)
    });
    if low < b' ' {
        return Err(BROKEN);
    }
    if high >= 0x80 && std::str::from_utf8(raw).is_err() {
        return Err(Unreadable::Encoding);
    }
    Ok(())
}

/// Takes escapes out, over pieces.
#[derive(Default)]
pub(super) struct Unescape {
    /// An escape or a character that is not all there.
    rest: Vec<u8>,
}

impl Unescape {
    pub(super) fn push(&mut self, raw: &[u8], plain: &mut Vec<u8>) -> Result<(), Unreadable> {
        if self.rest.is_empty() {
            let taken = unescape(raw, plain)?;
            self.rest.extend_from_slice(&raw[taken..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(raw);
        let taken = unescape(&joined, plain)?;
        joined.drain(..taken);
        self.rest = joined;
        Ok(())
    }

    /// # Errors
    /// When an escape is not all there.
    pub(super) fn finish(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BROKEN)
        }
    }
}

/// Returns how much it took: all but what is not all there.
fn unescape(raw: &[u8], plain: &mut Vec<u8>) -> Result<usize, Unreadable> {
    let mut at = 0;
    loop {
        let end = memchr::memchr(b'\\', &raw[at..]).map_or(raw.len(), |found| at + found);
        let text = &raw[at..end];
        let whole = match std::str::from_utf8(text) {
            Ok(_) => text.len(),
            // The rest of a character may come with the next piece.
            Err(problem) if problem.error_len().is_none() && end == raw.len() => {
                problem.valid_up_to()
            }
            Err(_) => return Err(Unreadable::Encoding),
        };
        check(&text[..whole])?;
        plain.extend_from_slice(&text[..whole]);
        at += whole;
        if end == raw.len() {
            return Ok(at);
        }
        let Some(length) = escaped(&raw[at..], plain)? else {
            return Ok(at);
        };
        at += length;
    }
}

/// Writes the character that is escaped at the beginning of `raw`. Returns the escape's length; `None` when it is not all there.
fn escaped(raw: &[u8], plain: &mut Vec<u8>) -> Result<Option<usize>, Unreadable> {
    let Some(kind) = raw.get(1) else {
        return Ok(None);
    };
    plain.push(match kind {
        b'"' | b'\\' | b'/' => *kind,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(raw, plain),
        _ => return Err(BROKEN),
    });
    Ok(Some(2))
}

fn unicode(raw: &[u8], plain: &mut Vec<u8>) -> Result<Option<usize>, Unreadable> {
    let mut utf8 = [0; 4];
    let Some(first) = unit(raw)? else {
        return Ok(None);
    };
    if !(0xd800..0xdc00).contains(&first) {
        // A low surrogate alone is no character.
        let character = char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
        plain.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        return Ok(Some(6));
    }
    let rest = &raw[6..];
    let may_be_pair = rest.is_empty() || rest == b"\\" || rest.starts_with(b"\\u");
    let second = if may_be_pair {
        match unit(rest)? {
            Some(second) => Some(second),
            None => return Ok(None),
        }
    } else {
        None
    };
    let low = second.filter(|second| (0xdc00..0xe000).contains(second));
    let character =
        low.and_then(|low| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00)));
    plain.extend_from_slice(
        character
            .unwrap_or(char::REPLACEMENT_CHARACTER)
            .encode_utf8(&mut utf8)
            .as_bytes(),
    );
    Ok(Some(if low.is_some() { 12 } else { 6 }))
}

/// The four digits of `\uXXXX`.
fn unit(raw: &[u8]) -> Result<Option<u32>, Unreadable> {
    let Some(digits) = raw.get(2..6) else {
        return Ok(None);
    };
    digits
        .iter()
        .try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(BROKEN)?;
            Ok(unit << 4 | digit)
        })
        .map(Some)
}

/// Writes `text` as it stands in a string.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&text[from..]);
}
