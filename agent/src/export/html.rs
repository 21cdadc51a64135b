//! One page that needs nothing else: the style, the script and the data are in it. The policy in its head lets the browser run that one
//! script, by its hash, and load nothing; the data are JSON in blocks that are no scripts to a browser.

use std::io::Write;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    CANNOT_WRITE, Form, Whole,
    har::url,
    source::Kept,
    story::{BodyStory, HoldStory, Story},
};
use crate::{
    cli::sessions::{command_line, events},
    record::{Event, StatementAnswer, StoredEvent},
};

const HEAD: &str = include_str!("html/head.html");
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
/// Bytes of a body that are shown.
const SHOWN: usize = 64 * 1024;

pub(super) struct Page;

impl Page {
    pub(super) fn begin(out: &mut impl Write) -> anyhow::Result<Self> {
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let head = HEAD
            .replace("{style}", &hash(STYLE))
            .replace("{script}", &hash(SCRIPT))
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{css}", STYLE);
        out.write_all(head.as_bytes()).context(CANNOT_WRITE)?;
        Ok(Self)
    }
}

impl<W: Write> Form<W> for Page {
    const BODIES: bool = true;

    fn operation(&mut self, out: &mut W, whole: &Whole<'_>) -> anyhow::Result<()> {
        block(out, &operation(whole))
    }

    fn event(&mut self, out: &mut W, event: &StoredEvent) -> anyhow::Result<()> {
        match note(event) {
            Some(note) => block(out, &note),
            None => Ok(()),
        }
    }

    fn finish(self, out: &mut W) -> anyhow::Result<()> {
        write!(out, "<script>{SCRIPT}</script>\n</body>\n</html>\n").context(CANNOT_WRITE)
    }
}

/// A block of data. Nothing in it ends it: JSON may spell every `<` otherwise.
fn block(out: &mut impl Write, value: &Value) -> anyhow::Result<()> {
    let json = value.to_string().replace('<', "\\u003c");
    writeln!(
        out,
        "<script type=\"application/json\" class=\"told\">{json}</script>"
    )
    .context(CANNOT_WRITE)
}

/// Events that belong to no operation and that a person wants to see.
fn note(stored: &StoredEvent) -> Option<Value> {
    let kind = match &stored.event {
        Event::SessionOpened { .. } => "opened",
        Event::SessionClosed { .. } => "closed",
        Event::SessionAdopted { .. } => "adopted",
        Event::ConnectionRefused { .. }
        | Event::ConnectionCut { .. }
        | Event::RequestRefused { .. }
        | Event::Refused { .. }
        | Event::RefusedMore { .. }
        | Event::SessionRefused { .. }
        | Event::ApprovalRefused { .. }
        | Event::ControlRefused { .. } => "refused",
        Event::ContainerCreated { .. } => "container",
        Event::GrantMade { .. } | Event::GrantEnded { .. } => "grant",
        Event::EnforcementLost { .. } => "enforcement lost",
        Event::PoliciesLoaded { .. } => "policies",
        Event::DaemonStarted { .. } | Event::DaemonStopped { .. } => "daemon",
        Event::RecordPurged { .. } => "purged",
        Event::LegalHold { .. } | Event::LegalHoldReleased { .. } => "legal hold",
        _ => return None,
    };
    let text = events::described(&stored.event);
    let words: Vec<_> = text.split_whitespace().collect();
    let mut note = json!({
        "seq": stored.seq,
        "t": stored.time.as_millisecond(),
        "kind": kind,
        "text": words.join(" "),
        "session": stored.event.session(),
    });
    if let Event::SessionOpened {
        principal,
        user,
        command,
        ..
    } = &stored.event
    {
        note["principal"] = format!("{}#{}", principal.issuer, principal.subject).into();
        note["user"] = user.name.as_str().into();
        note["command"] = command_line(command).into();
    }
    Some(note)
}

fn operation(whole: &Whole<'_>) -> Value {
    let Story {
        operation,
        decision,
        outcome,
        ..
    } = whole.story;
    let (story, session) = (whole.story, whole.session);
    let fields = operation.seen.as_ref().map(|seen| &seen.content);
    let policies: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
    json!({
        "seq": story.seq,
        "t": milliseconds(story.at),
        "id": operation.id,
        "session": story.session,
        "principal": session.principal,
        "user": session.user.name,
        "connection": story.connection,
        "action": operation.action,
        "resource": operation.resource,
        "method": operation.method,
        "url": url(story),
        "digest": operation.digest,
        "verdict": decision.verdict,
        "observed": decision.observed,
        "policies": policies,
        "reason": decision.reason,
        "hold": story.hold.as_ref().map(hold),
        "grant": story.grant,
        "headers": story.answered.as_ref().map(|it| &it.headers),
        "request": side(story.request.as_ref(), &whole.request),
        "response": side(story.response.as_ref(), &whole.response),
        "fields": fields_of(fields),
        "sql": story.is_statement(),
        "statement": story.statement(),
        "answer": story.answer().map(StatementAnswer::described),
        "status": story.status(),
        "result": outcome.as_ref().map(|it| it.result),
        "end": outcome.as_ref().map(|it| milliseconds(it.at)),
    })
}

/// What policy saw of the body: shown in any case, kept or not.
fn fields_of(content: Option<&crate::record::ContentRecord>) -> Value {
    use crate::record::ContentRecord as C;
    let fields = match content {
        Some(
            C::Fields(fields)
            | C::Media {
                metadata: fields, ..
            },
        ) => fields,
        Some(C::Unreadable) => return json!([["", "the body could not be read"]]),
        Some(C::Empty) | None => return Value::Null,
    };
    let shown = fields.values.iter().map(|(path, values)| {
        let values: Vec<_> = values.as_slice().iter().map(|it| it.as_str()).collect();
        json!([path, values.join(", ")])
    });
    let withheld = fields.withheld.iter().map(|path| json!([path, "[masked]"]));
    let more = fields.more.then(|| json!(["…", "and more"]));
    shown.chain(withheld).chain(more).collect()
}

fn milliseconds(at: jiff::Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1000.0
}

fn hold(hold: &HoldStory) -> Value {
    let answers: Vec<_> = hold
        .answers
        .iter()
        .map(|answer| {
            json!({
                "at": milliseconds(answer.at),
                "by": answer.vote.reviewer,
                "verdict": answer.vote.verdict,
                "comment": answer.vote.comment,
                "glass": answer.break_glass,
            })
        })
        .collect();
    let over = hold
        .over
        .as_ref()
        .map(|over| json!({"at": milliseconds(over.at), "how": over.how, "reason": over.reason}));
    json!({
        "at": milliseconds(hold.at),
        "approval": hold.approval,
        "groups": hold.groups,
        "joined": hold.joined,
        "answers": answers,
        "over": over,
    })
}

fn side(body: Option<&BodyStory>, kept: &Kept) -> Value {
    let Some(body) = body else {
        return Value::Null;
    };
    let record = &body.record;
    let mut side = json!({
        "kind": record.content_type,
        "size": record.bytes,
        "cut": record.cut,
        "complete": record.complete,
    });
    match kept {
        Kept::None => {}
        Kept::Gone(why) => side["gone"] = why.as_str().into(),
        Kept::Bytes(bytes) => {
            let shown = &bytes[..bytes.len().min(SHOWN)];
            side["text"] = String::from_utf8_lossy(shown).into();
            side["more"] = (bytes.len() > SHOWN).into();
        }
    }
    side
}
