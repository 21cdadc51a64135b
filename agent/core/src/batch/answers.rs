//! The answer to a batch, taken apart and put together again: `multipart/mixed`, with a whole HTTP response in each part.

use http::{HeaderMap, HeaderValue, header};

use super::{MAX_HEADERS, MAX_PARTS, line};
use crate::recognise::multipart::{self, Next, Parts, map};

/// What stands before the id of a part in the id of its answer.
const ANSWER_TO: &str = "response-";

/// The answers to a batch.
#[derive(Debug)]
pub struct Answers {
    /// In the order they came.
    pub parts: Vec<Answer>,
    boundary: String,
}

/// The answer to one part.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The headers around it, `Content-ID` among them.
    envelope: HeaderMap,
    /// The HTTP status.
    pub status: u16,
    reason: String,
    /// Its headers, but for `Content-Length`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answers {
    /// Takes an answer apart.
    ///
    /// # Errors
    /// When that cannot be done without doubt; the text says why.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, String> {
        let boundary = multipart::boundary_of(content_type)?;
        let mut walk = Parts::new(body, &boundary)?;
        let mut parts = Vec::new();
        loop {
            let raw = match walk.next()? {
                Next::Part(raw) => raw,
                Next::Open(_) => return Err("it does not end".into()),
                Next::End => return Ok(Self { parts, boundary }),
            };
            if parts.len() == MAX_PARTS {
                return Err(format!("it has more than {MAX_PARTS} parts"));
            }
            let part = Answer::parse(raw);
            parts.push(part.map_err(|why| format!("part {}: {why}", parts.len() + 1))?);
        }
    }

    /// Which part of the batch each of these is the answer to, by their ids, else by their order; `None` where both leave doubts.
    #[must_use]
    pub fn places(&self, names: &[Option<HeaderValue>]) -> Option<Vec<usize>> {
        if self.parts.len() != names.len() {
            return None;
        }
        let ids: Vec<_> = self.parts.iter().map(Answer::id).collect();
        if ids.iter().all(Option::is_none) {
            return Some((0..names.len()).collect());
        }
        let place = |id: &Option<String>| {
            let id = id.as_deref()?;
            let is_it = |name: &Option<HeaderValue>| {
                let name = name.as_ref().and_then(|name| name.to_str().ok());
                name.is_some_and(|name| bare(name) == id)
            };
            let mut found = (0..names.len()).filter(|at| is_it(&names[*at]));
            found.next().filter(|_| found.next().is_none())
        };
        let places: Vec<usize> = ids.iter().map(place).collect::<Option<_>>()?;
        let mut sorted = places.clone();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.len() == places.len()).then_some(places)
    }

    /// The body that these make, for the `Content-Type` they came with.
    ///
    /// # Errors
    /// When a part has come to hold the boundary.
    pub fn serialise(&self) -> Result<Vec<u8>, String> {
        let delimiter = format!("--{}", self.boundary);
        let mut out = Vec::new();
        for part in &self.parts {
            if multipart::contains(&part.body, delimiter.as_bytes()) {
                return Err("a part holds its boundary".into());
            }
            out.extend_from_slice(format!("{delimiter}\r\n").as_bytes());
            for (name, value) in &part.envelope {
                line(&mut out, name.as_str().as_bytes(), value);
            }
            let (status, reason) = (part.status, &part.reason);
            out.extend_from_slice(format!("\r\nHTTP/1.1 {status} {reason}\r\n").as_bytes());
            for (name, value) in &part.headers {
                line(&mut out, name.as_str().as_bytes(), value);
            }
            let length = part.body.len();
            out.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
            out.extend_from_slice(&part.body);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("{delimiter}--\r\n").as_bytes());
        Ok(out)
    }
}

impl Answer {
    fn parse(raw: &[u8]) -> Result<Self, String> {
        let (mut envelope, response) = multipart::headers(raw)?;
        // Its length changes, and what it says of that goes with the part.
        envelope.remove(header::CONTENT_LENGTH);
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut slots);
        // The empty line behind the headers is missing where no body follows.
        let ended = [response, b"\r\n\r\n"].concat();
        let (length, whole) = match parsed.parse(response) {
            Ok(httparse::Status::Complete(length)) => (length, response),
            Ok(httparse::Status::Partial) => {
                parsed = httparse::Response::new(&mut slots);
                match parsed.parse(&ended) {
                    Ok(httparse::Status::Complete(length)) => (length, ended.as_slice()),
                    _ => return Err("its response does not end".into()),
                }
            }
            Err(error) => return Err(format!("its response is not well formed ({error})")),
        };
        let mut headers = map(parsed.headers)?;
        headers.remove(header::CONTENT_LENGTH);
        Ok(Self {
            envelope,
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            headers,
            body: whole[length..].to_vec(),
        })
    }

    /// The id of what it answers.
    fn id(&self) -> Option<String> {
        let id = self.envelope.get("content-id")?.to_str().ok()?;
        let id = bare(id);
        Some(id.strip_prefix(ANSWER_TO).unwrap_or(id).to_owned())
    }
}

/// Without angle brackets.
fn bare(id: &str) -> &str {
    let id = id.trim();
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    inner.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/mixed; boundary=batch_x";

    fn two(first: &str, second: &str) -> String {
        let part = |id: &str, body: &str| {
            format!(
                "--batch_x\r\nContent-Type: application/http\r\n{id}\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}\r\n",
                body.len()
            )
        };
        format!(
            "{}{}--batch_x--\r\n",
            part(first, r#"{"a":1}"#),
            part(second, r#"{"b":2}"#)
        )
    }

    fn id(name: &'static str) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(name))
    }

    #[test]
    fn answers_find_their_questions() {
        let parse = |text: &str| Answers::parse(TYPE, text.as_bytes()).expect("well formed");
        let names = [id("<u+1>"), id("<u+2>")];
        let ordered = parse(&two("", ""));
        assert_eq!(ordered.places(&names), Some(vec![0, 1]));
        assert_eq!(ordered.places(&names[..1]), None);
        let swapped = parse(&two(
            "Content-ID: <response-u+2>\r\n",
            "Content-ID: <response-u+1>\r\n",
        ));
        assert_eq!(swapped.places(&names), Some(vec![1, 0]));
        let twice = parse(&two(
            "Content-ID: <response-u+2>\r\n",
            "Content-ID: response-u+2\r\n",
        ));
        assert_eq!(twice.places(&names), None);
        assert_eq!(
            parse(&two("Content-ID: <response-u+2>\r\n", "")).places(&names),
            None
        );
    }

    #[test]
    fn what_is_put_together_reads_the_same() {
        let mut answers = Answers::parse(TYPE, two("", "").as_bytes()).expect("well formed");
        assert_eq!(answers.parts[1].body, br#"{"b":2}"#);
        answers.parts[1].body = b"{}".to_vec();
        let again = answers.serialise().expect("no boundary in it");
        let again = Answers::parse(TYPE, &again).expect("well formed");
        assert_eq!(again.parts[0].body, br#"{"a":1}"#);
        assert_eq!(again.parts[1].body, b"{}");
        assert_eq!(again.parts[1].status, 200);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_not(body in "(--batch_x(--)?|\r?\n|HTTP/1.1 200 OK|[a-z: ]){0,30}") {
            let _ = Answers::parse(TYPE, body.as_bytes());
        }
    }
}
