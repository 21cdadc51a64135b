//! What the emulated services see of a request, and what they answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// One request to an emulated service: a whole HTTP request, or one part of a batch.
#[derive(Clone, Debug)]
pub struct Call {
    /// The HTTP verb.
    pub method: String,
    /// Lower case, without the port.
    pub host: String,
    /// The path's segments, percent-decoded.
    pub segments: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// Splits `target` (a path with its query) into what services ask about.
    #[must_use]
    pub fn new(method: &str, host: &str, target: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            segments: path.split('/').skip(1).map(decoded).collect(),
            query: form(query),
            headers,
            body,
        }
    }

    /// The first value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut values = self.query.iter().filter(|(key, _)| key == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON, `null` where it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// `a=b&c=d`, decoded.
#[must_use]
pub fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| {
            (
                decoded(&key.replace('+', " ")),
                decoded(&value.replace('+', " ")),
            )
        })
        .collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What a service answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Headers beyond `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// More of the body, each piece after a pause; its length is not announced then.
    pub rest: Vec<(Duration, Bytes)>,
    /// What comes behind the body.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// 200 with JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::of("application/json; charset=UTF-8", value.to_string().into())
    }

    /// 200 with bytes of some type.
    #[must_use]
    pub fn of(content_type: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status: StatusCode::OK,
            headers,
            body,
            rest: Vec::new(),
            trailers: None,
        }
    }

    /// 204 without a body.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            rest: Vec::new(),
            trailers: None,
        }
    }

    /// The same in pieces of this many bytes, with pauses before them.
    #[must_use]
    pub fn in_pieces(mut self, length: usize, pause: Duration) -> Self {
        let pieces = self.body.chunks(length.max(1));
        self.rest = pieces
            .map(|piece| (pause, Bytes::copy_from_slice(piece)))
            .collect();
        self.body = Bytes::new();
        self
    }

    /// An error in Google's JSON format.
    #[must_use]
    pub fn error(status: StatusCode, reason: &str, message: &str) -> Self {
        let code = status.as_u16();
        Self::json(&json!({"error": {
            "code": code, "message": message, "status": reason,
            "errors": [{"message": message, "domain": "global", "reason": reason}],
        }}))
        .with_status(status)
    }

    /// 404 for `what`.
    #[must_use]
    pub fn missing(what: &str) -> Self {
        Self::error(
            StatusCode::NOT_FOUND,
            "notFound",
            &format!("{what} was not found"),
        )
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header.
    ///
    /// # Panics
    /// When `value` is not a header value.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("header values here are visible ASCII");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}
