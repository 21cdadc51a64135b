//! `COPY`'s text: a row a line.

use zeroize::Zeroizing;

use super::{super::super::Unreadable, Columns, line_by};

pub(super) struct Text {
    delimiter: u8,
    null: Vec<u8>,
    /// The line that comes has the columns' names.
    at_header: bool,
    /// How far what is held was looked at for a line's end.
    seen: usize,
    field: Zeroizing<Vec<u8>>,
    masked: Zeroizing<Vec<u8>>,
}

impl Text {
    pub(super) fn new(delimiter: u8, null: Vec<u8>, header: bool) -> Self {
        Self {
            delimiter,
            null,
            at_header: header,
            seen: 0,
            field: Zeroizing::default(),
            masked: Zeroizing::default(),
        }
    }

    pub(super) fn rows(
        &mut self,
        columns: &mut Columns,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Unreadable> {
        let mut done = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[done + self.seen..]) {
            let end = done + self.seen + end;
            self.seen = 0;
            self.line(columns, &input[done..end], out)?;
            out.push(b'\n');
            done = end + 1;
        }
        self.seen = input.len() - done;
        Ok(done)
    }

    pub(super) fn finish(
        &mut self,
        columns: &mut Columns,
        rest: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        match rest {
            [] => Ok(()),
            rest => self.line(columns, rest, out),
        }
    }

    fn line(
        &mut self,
        columns: &mut Columns,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let is_header = std::mem::take(&mut self.at_header);
        line_by(is_header, line, out, |line, out| {
            self.row(columns, line, out)
        })
    }

    fn row(
        &mut self,
        columns: &mut Columns,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        for (column, field) in fields(line, self.delimiter).enumerate() {
            if column > 0 {
                out.push(self.delimiter);
            }
            if field == self.null {
                out.extend_from_slice(field);
                continue;
            }
            let value = if memchr::memchr(b'\\', field).is_some() {
                self.field.clear();
                unescape(field, &mut self.field);
                &self.field
            } else {
                field
            };
            self.masked.clear();
            match columns.write(column, value, &mut self.masked)? {
                true => escape(&self.masked, self.delimiter, out),
                false => out.extend_from_slice(field),
            }
        }
        Ok(())
    }
}

/// Fields of a line. A delimiter behind a backslash is part of a field.
fn fields(line: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        while let Some(found) = memchr::memchr2(delimiter, b'\\', &text[from..]) {
            let at = from + found;
            if text[at] == delimiter {
                rest = Some(&text[at + 1..]);
                return Some(&text[..at]);
            }
            from = text.len().min(at + 2);
        }
        rest = None;
        Some(text)
    })
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some((escaped, after)) = rest[at + 1..].split_first() else {
            out.push(b'\\');
            return;
        };
        let (byte, after) = match escaped {
            b'b' => (8, after),
            b'f' => (12, after),
            b'n' => (b'\n', after),
            b'r' => (b'\r', after),
            b't' => (b'\t', after),
            b'v' => (11, after),
            b'0'..=b'7' => number(&rest[at + 1..], 8, 3),
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => number(after, 16, 2),
            byte => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// A byte given by digits, as many as there are up to `most`.
fn number(digits: &[u8], base: u32, most: usize) -> (u8, &[u8]) {
    let mut value = 0_u32;
    let mut many = 0;
    while let Some(digit) = digits
        .get(many)
        .and_then(|digit| char::from(*digit).to_digit(base))
        .filter(|_| many < most)
    {
        value = value * base + digit;
        many += 1;
    }
    ((value & 0xff) as u8, &digits[many..])
}

fn escape(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in value {
        let escaped = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            byte if *byte == delimiter => delimiter,
            byte => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}
