//! HTTP Archive 1.2 (http://www.softwareishard.com/blog/har-12-spec/): operations that are HTTP requests; and statements, with the method `SQL`,
//! so that they stand among them. What it has no field for stands in `_holdpoint`.

use std::io::Write;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    CANNOT_WRITE, Form, Whole,
    source::Kept,
    story::{BodyStory, Story},
};
use crate::{
    postgres::masking::SQL,
    record::{Pairs, StatementAnswer},
};

pub(super) struct Har {
    first: bool,
}

impl Har {
    pub(super) fn begin(out: &mut impl Write) -> anyhow::Result<Self> {
        let creator = json!({"name": "Holdpoint", "version": env!("CARGO_PKG_VERSION")});
        write!(
            out,
            r#"{{"log":{{"version":"1.2","creator":{creator},"entries":["#
        )
        .context(CANNOT_WRITE)?;
        Ok(Self { first: true })
    }
}

impl<W: Write> Form<W> for Har {
    const BODIES: bool = true;

    fn operation(&mut self, out: &mut W, whole: &Whole<'_>) -> anyhow::Result<()> {
        let story = whole.story;
        if story.operation.method.as_str().is_empty() && !story.is_statement() {
            return Ok(());
        }
        let comma = if std::mem::take(&mut self.first) {
            "\n"
        } else {
            ",\n"
        };
        write!(out, "{comma}{}", entry(whole)).context(CANNOT_WRITE)
    }

    fn finish(self, out: &mut W) -> anyhow::Result<()> {
        out.write_all(b"\n]}}\n").context(CANNOT_WRITE)
    }
}

fn entry(whole: &Whole<'_>) -> Value {
    let story = whole.story;
    let milliseconds = |us: u64| us as f64 / 1000.0;
    let wait = story.answered.as_ref().map_or(0, |it| it.after_us);
    let held = story.held_us();
    let lasted = story.lasted_us();
    let receive = lasted.saturating_sub(wait + held.unwrap_or_default());
    json!({
        "startedDateTime": story.at.to_string(),
        "time": milliseconds(held.unwrap_or_default() + wait + receive),
        "request": request(whole),
        "response": response(whole),
        "cache": {},
        // What the viewer calls blocked is the wait for people.
        "timings": {
            "blocked": held.map_or(-1.0, milliseconds),
            "send": 0,
            "wait": milliseconds(wait),
            "receive": milliseconds(receive),
        },
        "connection": story.connection.to_string(),
        "comment": format!("{:?}: {}", story.decision.verdict, story.operation.action),
        "_holdpoint": {
            "session": story.session,
            "principal": whole.session.principal,
            "operation": story.operation.id,
            "action": story.operation.action,
            "resource": story.operation.resource,
            "digest": story.operation.digest,
            "decision": story.decision,
            "hold": story.hold,
            "grant": story.grant,
            "result": story.outcome.as_ref().map(|it| it.result),
            "statement": story.answer(),
        },
    })
}

/// What no path has (RFC 3986, section 3.3). What is encoded already stays.
const NOT_IN_A_PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The address that was asked for.
pub(super) fn url(story: &Story) -> String {
    let operation = &story.operation;
    let port = operation.port.map(|port| format!(":{port}"));
    let (scheme, path) = match story.is_statement() {
        // Before it stands the name of Holdpoint's entry.
        true => {
            let path = operation.path.as_str();
            ("postgresql", path.rfind('/').map_or(path, |at| &path[at..]))
        }
        false => ("https", operation.path.as_str()),
    };
    let path = percent_encoding::utf8_percent_encode(path, NOT_IN_A_PATH);
    let mut url = format!(
        "{scheme}://{}{}{path}",
        operation.host,
        port.unwrap_or_default()
    );
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    for (at, (name, value)) in operation.query.as_slice().iter().enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(&encode(name.as_str()));
        url.push('=');
        url.push_str(&encode(value.as_str()));
    }
    url
}

fn named(pairs: &Pairs) -> Vec<Value> {
    let pair = |(name, value): &(_, _)| json!({"name": name, "value": value});
    pairs.as_slice().iter().map(pair).collect()
}

fn request(whole: &Whole<'_>) -> Value {
    let operation = &whole.story.operation;
    let body = whole.story.request.as_ref();
    let method = match whole.story.is_statement() {
        true => "SQL",
        false => operation.method.as_str(),
    };
    let mut request = json!({
        "method": method,
        "url": url(whole.story),
        "httpVersion": "unknown",
        "cookies": [],
        "headers": [],
        "queryString": named(&operation.query),
        "headersSize": -1,
        "bodySize": size(body),
    });
    if let Some(body) = body {
        let (text, comment) = match &whole.request {
            // HAR 1.2 has no encoding for what is posted.
            Kept::Bytes(bytes) => (String::from_utf8_lossy(bytes).into_owned(), note(body)),
            Kept::Gone(why) => (String::new(), why.clone()),
            Kept::None => (String::new(), String::new()),
        };
        request["postData"] =
            json!({"mimeType": kind(body), "text": text, "params": [], "comment": comment});
    }
    if let (None, Some(statement)) = (body, whole.story.statement()) {
        request["postData"] =
            json!({"mimeType": SQL, "text": statement, "params": [], "comment": "masked"});
    }
    request
}

fn response(whole: &Whole<'_>) -> Value {
    let story = whole.story;
    let body = story.response.as_ref();
    let mut content = json!({"size": size(body).max(0), "mimeType": body.map_or("", kind)});
    match &whole.response {
        Kept::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => content["text"] = text.into(),
            Err(_) => {
                content["text"] = BASE64_STANDARD.encode(bytes).into();
                content["encoding"] = "base64".into();
            }
        },
        Kept::Gone(why) => content["comment"] = why.as_str().into(),
        Kept::None => {}
    }
    if let (Some(body), Kept::Bytes(_)) = (body, &whole.response) {
        content["comment"] = note(body).into();
    }
    let status = story.status();
    let reason = status.and_then(|status| http::StatusCode::from_u16(status).ok());
    let reason = reason.and_then(|status| status.canonical_reason());
    let said = story.answer().map(StatementAnswer::described);
    let reason = said.as_deref().or(reason);
    let headers = story.answered.as_ref().map(|it| named(&it.headers));
    json!({
        // 0 is what browsers write where there was no answer.
        "status": status.unwrap_or_default(),
        "statusText": reason.unwrap_or_default(),
        "httpVersion": "unknown",
        "cookies": [],
        "headers": headers.unwrap_or_default(),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": size(body),
    })
}

fn size(body: Option<&BodyStory>) -> i64 {
    body.map_or(-1, |body| {
        i64::try_from(body.record.bytes).unwrap_or(i64::MAX)
    })
}

fn kind(body: &BodyStory) -> &str {
    let kind = body.record.content_type.as_ref();
    kind.map_or("application/octet-stream", |it| it.as_str())
}

fn note(body: &BodyStory) -> String {
    match (body.record.cut, body.record.complete) {
        (true, _) => "masked; only its beginning was kept".into(),
        (false, false) => "masked; it broke off".into(),
        (false, true) => "masked".into(),
    }
}
