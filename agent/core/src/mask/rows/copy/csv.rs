//! `COPY`'s CSV: fields in quotes may have lines in them.

use zeroize::Zeroizing;

use super::{super::super::Unreadable, Columns, line_by};

pub(super) struct Csv {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    at_header: bool,
    /// How far what is held was looked at for a row's end, and whether that was within quotes.
    seen: usize,
    quoted: bool,
    field: Zeroizing<Vec<u8>>,
    masked: Zeroizing<Vec<u8>>,
}

impl Csv {
    pub(super) fn new(
        delimiter: u8,
        [quote, escape]: [u8; 2],
        null: Vec<u8>,
        header: bool,
    ) -> Self {
        Self {
            delimiter,
            quote,
            escape,
            null,
            at_header: header,
            seen: 0,
            quoted: false,
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
        while let Some(end) = self.row_end(&input[done..]) {
            let row = &input[done..done + end];
            self.line(columns, row, out)?;
            out.push(b'\n');
            done += end + 1;
        }
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
            _ if self.quoted => Err(Unreadable::Row),
            rest => self.line(columns, rest, out),
        }
    }

    /// Where the row at the start ends. What was seen is remembered, so that it is not looked at again.
    fn row_end(&mut self, input: &[u8]) -> Option<usize> {
        let mut at = self.seen;
        while let Some(found) = memchr::memchr3(self.quote, self.escape, b'\n', &input[at..]) {
            let byte = input[at + found];
            at += found;
            if self.quoted && byte == self.escape && self.escape != self.quote {
                // Only a quote or itself is escaped: which, the next byte says.
                let Some(next) = input.get(at + 1) else {
                    self.seen = at;
                    return None;
                };
                at += if *next == self.quote || *next == self.escape {
                    2
                } else {
                    1
                };
                continue;
            }
            if byte == self.quote {
                self.quoted = !self.quoted;
            } else if byte == b'\n' && !self.quoted {
                self.seen = 0;
                return Some(at);
            }
            at += 1;
        }
        self.seen = input.len();
        None
    }

    fn line(
        &mut self,
        columns: &mut Columns,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let is_header = std::mem::take(&mut self.at_header);
        line_by(is_header, row, out, |row, out| self.row(columns, row, out))
    }

    fn row(
        &mut self,
        columns: &mut Columns,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let mut rest = row;
        for column in 0.. {
            let mut value = std::mem::take(&mut self.field);
            value.clear();
            let (length, was_quoted) = self.unquote(rest, &mut value);
            let (raw, after) = rest.split_at(length);
            self.masked.clear();
            let is_null = !was_quoted && raw == self.null;
            let is_masked = !is_null && columns.write(column, &value, &mut self.masked)?;
            match is_masked {
                true => self.write(out),
                false => out.extend_from_slice(raw),
            }
            self.field = value;
            match after.split_first() {
                Some((divider, after)) => {
                    out.push(*divider);
                    rest = after;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// The field at the start without its quotes; how long it is with them, and whether it has some.
    fn unquote(&self, row: &[u8], value: &mut Vec<u8>) -> (usize, bool) {
        let (mut at, mut quoted, mut has_quotes) = (0, false, false);
        while let Some(byte) = row.get(at) {
            let next = row.get(at + 1);
            let escapes = quoted
                && *byte == self.escape
                && next.is_some_and(|next| *next == self.quote || *next == self.escape);
            if escapes {
                value.push(row[at + 1]);
                at += 2;
                continue;
            }
            if *byte == self.quote {
                quoted = !quoted;
                has_quotes = true;
            } else if *byte == self.delimiter && !quoted {
                break;
            } else {
                value.push(*byte);
            }
            at += 1;
        }
        (at, has_quotes)
    }

    /// What was masked, in quotes where it needs some.
    fn write(&self, out: &mut Vec<u8>) {
        let special = [self.delimiter, self.quote, self.escape, b'\n', b'\r'];
        let needs_quotes = self.masked.iter().any(|byte| special.contains(byte))
            || *self.masked == self.null
            || self.masked.is_empty();
        if !needs_quotes {
            return out.extend_from_slice(&self.masked);
        }
        out.push(self.quote);
        for byte in self.masked.iter() {
            if *byte == self.quote || *byte == self.escape {
                out.push(self.escape);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }
}
