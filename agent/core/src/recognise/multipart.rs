//! Multipart bodies (RFC 2046), taken apart without doubt or not at all. Lines end in CRLF or, as some clients
//! have it, in LF.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::media_type::MediaType;

const MAX_PART_HEADERS: usize = 64;

/// Walks over the parts of a body.
pub(crate) struct Parts<'a> {
    rest: &'a [u8],
    delimiter: Vec<u8>,
    ended: bool,
}

/// What stands between two delimiters.
pub(crate) enum Next<'a> {
    Part(&'a [u8]),
    /// A part of which the end is not there.
    Open(&'a [u8]),
    End,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// When the body does not begin with a delimiter: what some readers skip, others do not.
    pub fn new(body: &'a [u8], boundary: &str) -> Result<Self, String> {
        let delimiter = format!("--{boundary}").into_bytes();
        let start = body
            .iter()
            .position(|b| !matches!(b, b'\r' | b'\n'))
            .unwrap_or(body.len());
        let rest = body[start..].strip_prefix(delimiter.as_slice());
        let mut parts = Self {
            rest: rest.ok_or("it does not begin with its boundary")?,
            delimiter,
            ended: false,
        };
        parts.end_delimiter()?;
        Ok(parts)
    }

    /// # Errors
    /// When a line begins as a delimiter does and is none, or something follows the last one.
    pub fn next(&mut self) -> Result<Next<'a>, String> {
        if self.ended {
            let blank = self.rest.iter().all(u8::is_ascii_whitespace);
            return if blank {
                Ok(Next::End)
            } else {
                Err("something follows its end".into())
            };
        }
        let Some(at) = find_line(self.rest, &self.delimiter) else {
            return Ok(Next::Open(std::mem::take(&mut self.rest)));
        };
        let part = &self.rest[..at];
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        self.rest = &self.rest[at + self.delimiter.len()..];
        self.end_delimiter()?;
        Ok(Next::Part(part))
    }

    /// Reads what stands behind the boundary in a delimiter line.
    fn end_delimiter(&mut self) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix(b"--") {
            self.rest = rest;
            self.ended = true;
        }
        let blanks = self.rest.iter().position(|b| !matches!(b, b' ' | b'\t'));
        self.rest = &self.rest[blanks.unwrap_or(self.rest.len())..];
        let line_end = self
            .rest
            .strip_prefix(b"\r\n")
            .or_else(|| self.rest.strip_prefix(b"\n"));
        match line_end {
            Some(rest) => self.rest = rest,
            None if self.ended && self.rest.is_empty() => {}
            None => return Err("a line begins with its boundary and is no delimiter".into()),
        }
        Ok(())
    }
}

/// Where a line begins with `start`.
fn find_line(text: &[u8], start: &[u8]) -> Option<usize> {
    if text.starts_with(start) {
        return Some(0);
    }
    let mut from = 0;
    while let Some(end) = text[from..].iter().position(|b| *b == b'\n') {
        from += end + 1;
        if text[from..].starts_with(start) {
            return Some(from);
        }
    }
    None
}

/// Whether `needle` is anywhere in `text`.
pub(crate) fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// The headers of a part and what follows the empty line behind them.
///
/// # Errors
/// When they are not well formed: folded, with blanks before the colon, too many.
pub(crate) fn headers(part: &[u8]) -> Result<(HeaderMap, &[u8]), String> {
    if let Some(body) = part
        .strip_prefix(b"\r\n")
        .or_else(|| part.strip_prefix(b"\n"))
    {
        return Ok((HeaderMap::new(), body));
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_PART_HEADERS];
    match httparse::parse_headers(part, &mut slots) {
        Ok(httparse::Status::Complete((length, headers))) => Ok((map(headers)?, &part[length..])),
        Ok(httparse::Status::Partial) => Err("the headers of a part do not end".into()),
        Err(error) => Err(format!(
            "the headers of a part are not well formed ({error})"
        )),
    }
}

pub(crate) fn map(headers: &[httparse::Header<'_>]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a header of a part is not well formed".into());
        };
        map.append(name, value);
    }
    Ok(map)
}

/// The boundary of a multipart type. gcloud quotes it with apostrophes, which are legal in a boundary, and does not mean
/// them: where `lenient`, such a pair is taken off, as Cloud Storage does.
///
/// # Errors
/// When there is none or it is not legal.
pub(super) fn boundary(media_type: &MediaType, lenient: bool) -> Result<&str, String> {
    let boundary = media_type.parameter("boundary").unwrap_or_default();
    let unquoted = boundary
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    let boundary = match unquoted {
        Some(_) if !lenient => return Err("its boundary is in apostrophes".into()),
        Some(unquoted) => unquoted,
        None => boundary,
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    let good = (1..=200).contains(&boundary.len())
        && boundary.bytes().all(legal)
        && !boundary.ends_with(' ');
    good.then_some(boundary)
        .ok_or_else(|| "it has no legal boundary".into())
}

/// The boundary in a `Content-Type`.
///
/// # Errors
/// As [`boundary`], or when it cannot be read.
pub(crate) fn boundary_of(content_type: &str) -> Result<String, String> {
    let media_type = MediaType::parse(content_type).map_err(|error| error.0)?;
    boundary(&media_type, false).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut parts = Parts::new(body, "b")?;
        let mut found = Vec::new();
        loop {
            match parts.next()? {
                Next::Part(part) => found.push(part.to_vec()),
                Next::Open(_) => return Err("open".into()),
                Next::End => return Ok(found),
            }
        }
    }

    #[test]
    fn parts_are_found_whatever_ends_a_line() {
        let expected = vec![b"one\n".to_vec(), b"".to_vec(), b"t--bwo".to_vec()];
        assert_eq!(
            parts(b"--b\none\n\n--b\n\n--b\nt--bwo\n--b--\n"),
            Ok(expected.clone())
        );
        assert_eq!(
            parts(b"\r\n--b\r\none\n\r\n--b \r\n\r\n--b\r\nt--bwo\r\n--b--"),
            Ok(expected)
        );
    }

    #[test]
    fn bodies_that_readers_take_apart_differently_are_refused() {
        for bad in [
            &b""[..],
            b"preamble\n--b\nx\n--b--",
            b"--b\nx\n--b--\nepilogue",
            b"--b\nx\n--bc\ny\n--b--",
            b"--b\nx",
            b"--b x\n--b--",
            b"--b\nx\n--b-\n--b--",
        ] {
            assert!(parts(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(body in "(--b(--)?|\r?\n|[a-z: ]|\r){0,40}") {
            let _ = parts(body.as_bytes());
            let _ = headers(body.as_bytes());
        }
    }
}
