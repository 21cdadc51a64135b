//! `POST /batch/...`: several requests in one, as `multipart/mixed`
//! (<https://cloud.google.com/storage/docs/batch>).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::call::{Answer, Call};

const BOUNDARY: &str = "batch_stand_in";

/// One part: the call inside, and the `Content-ID` that its answer repeats.
pub struct Part {
    id: Option<String>,
    /// The request line's verb and target, as sent.
    pub line: (String, String),
    /// The request inside.
    pub call: Call,
}

/// The requests inside a batch; none where the body is not one.
#[must_use]
pub fn parts(outer: &Call) -> Vec<Part> {
    let Some(boundary) = boundary(outer).filter(|_| outer.segments[0] == "batch") else {
        return Vec::new();
    };
    let pieces = multipart(&outer.body, &boundary);
    pieces
        .iter()
        .filter_map(|piece| part(outer, piece))
        .collect()
}

/// The boundary of a `multipart/*` call.
#[must_use]
pub fn boundary(call: &Call) -> Option<String> {
    let content_type = call.header("content-type")?;
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().starts_with("multipart/") {
        return None;
    }
    let value = parameters
        .split(';')
        .find_map(|it| it.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// The pieces between the boundaries, headers included, bytes untouched.
#[must_use]
pub fn multipart(body: &[u8], boundary: &str) -> Vec<Bytes> {
    let delimiter = format!("--{boundary}");
    let starts: Vec<usize> = find_all(body, delimiter.as_bytes());
    let inner = starts.windows(2).map(|pair| {
        let piece = &body[pair[0] + delimiter.len()..pair[1]];
        let piece = piece
            .strip_prefix(b"\r\n")
            .or(piece.strip_prefix(b"\n"))
            .unwrap_or(piece);
        let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
        Bytes::copy_from_slice(piece.strip_suffix(b"\r").unwrap_or(piece))
    });
    inner.collect()
}

/// Splits at the first empty line: headers, and the rest.
#[must_use]
pub fn head_and_body(piece: &Bytes) -> (HeaderMap, Bytes) {
    let crlf = find(piece, b"\r\n\r\n").map(|at| (at, 4));
    let lf = find(piece, b"\n\n").map(|at| (at, 2));
    let (at, width) = crlf.into_iter().chain(lf).min().unwrap_or((piece.len(), 0));
    (headers(&piece[..at]), piece.slice(at + width..))
}

fn part(outer: &Call, piece: &Bytes) -> Option<Part> {
    let (head, inner) = head_and_body(piece);
    let line_end = find(&inner, b"\n")?;
    let line = String::from_utf8_lossy(&inner[..line_end])
        .trim()
        .to_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (inner_headers, body) = head_and_body(&inner.slice(line_end + 1..));
    let path = match target.strip_prefix("https://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target.as_str(),
    };
    let call = Call::new(&method, &outer.host, path, inner_headers, body);
    let id = head.get("content-id").and_then(|id| id.to_str().ok());
    Some(Part {
        id: id.map(str::to_owned),
        line: (method, target),
        call,
    })
}

/// The answers in one `multipart/mixed` answer.
#[must_use]
pub fn answer(parts: Vec<Part>, each: impl Fn(&Call) -> Answer) -> Answer {
    let mut body = String::new();
    for part in parts {
        let answer = each(&part.call);
        let id = part
            .id
            .map(|id| format!("Content-ID: <response-{}\r\n", id.trim_start_matches('<')));
        body += &format!(
            "--{BOUNDARY}\r\nContent-Type: application/http\r\n{}\r\nHTTP/1.1 {}\r\n\
             Content-Type: application/json; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{}\r\n",
            id.unwrap_or_default(),
            answer.status,
            answer.body.len(),
            String::from_utf8_lossy(&answer.body),
        );
    }
    body += &format!("--{BOUNDARY}--\r\n");
    Answer::of("multipart/mixed; boundary=batch_stand_in", body.into())
}

fn headers(text: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let Some((name, value)) = line.trim().split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value.trim()),
        ) {
            map.append(name, value);
        }
    }
    map
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn find_all(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    let windows = haystack.windows(needle.len()).enumerate();
    windows
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect()
}
