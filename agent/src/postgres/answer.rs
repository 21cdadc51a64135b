//! What an agent is told before its first query ("Message Formats" in PostgreSQL's manual).

use std::collections::BTreeMap;

use super::{
    cancel::CancelKey,
    startup::{Protocol, Startup},
};

/// Why a connection comes to nothing, as PostgreSQL would tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// SQLSTATE.
    pub code: String,
    /// What happened.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Complaint {
    /// One with this SQLSTATE.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// With more of it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// ErrorResponse, after which the connection is closed.
    #[must_use]
    pub fn fatal(&self) -> Vec<u8> {
        let fields = [
            (b'S', Some("FATAL")),
            (b'V', Some("FATAL")),
            (b'C', Some(self.code.as_str())),
            (b'M', Some(self.message.as_str())),
            (b'D', self.detail.as_deref()),
            (b'H', self.hint.as_deref()),
        ];
        let mut body = Vec::new();
        for (kind, text) in fields {
            if let Some(text) = text {
                body.push(kind);
                put_text(&mut body, text);
            }
        }
        body.push(0);
        message(b'E', &body)
    }
}

/// That it is let in: all up to the first ReadyForQuery.
#[must_use]
pub fn welcome(
    startup: &Startup,
    parameters: &BTreeMap<String, String>,
    key: &CancelKey,
) -> Vec<u8> {
    let mut out = negotiation(startup);
    out.extend(message(b'R', &0_i32.to_be_bytes()));
    for (name, value) in parameters {
        let mut body = Vec::new();
        put_text(&mut body, name);
        put_text(&mut body, value);
        out.extend(message(b'S', &body));
    }
    let key = [&key.process.to_be_bytes()[..], &key.secret].concat();
    out.extend(message(b'K', &key));
    out.extend(message(b'Z', b"I"));
    out
}

/// NegotiateProtocolVersion, where something was asked for that does not exist here.
fn negotiation(startup: &Startup) -> Vec<u8> {
    if startup.offered == startup.protocol && startup.unknown.is_empty() {
        return Vec::new();
    }
    let mut body = startup.protocol.code().to_be_bytes().to_vec();
    let count = i32::try_from(startup.unknown.len()).unwrap_or(i32::MAX);
    body.extend(count.to_be_bytes());
    for name in &startup.unknown {
        put_text(&mut body, name);
    }
    message(b'v', &body)
}

/// Zero bytes end texts, so there are none in them.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + body.len()).unwrap_or(u32::MAX);
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

impl Protocol {
    /// As it stands in messages: major version, minor version, 16 bits each.
    #[must_use]
    pub fn code(self) -> i32 {
        (3 << 16) | i32::from(self.minor)
    }
}
