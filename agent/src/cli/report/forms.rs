//! The report on paper: for people, for programs, for a wiki.

use std::fmt::Write as _;

use holdpoint_core::approval::Answer;
use jiff::Timestamp;

use super::{Form, told::Question};
use crate::{
    cli::approvals::screen::{self, Out, safe},
    record::{ContentRecord, OperationRecord, OutcomeResult, Pairs},
    session::SessionId,
};

/// What is written, question by question.
pub(super) struct Paper {
    form: Form,
    out: Out,
    count: usize,
}

impl Paper {
    pub(super) fn begin(form: Form, out: Out) -> anyhow::Result<Self> {
        let mut paper = Self {
            form,
            out,
            count: 0,
        };
        match form {
            Form::Table => {}
            Form::Json => paper.out.print("[")?,
            Form::Markdown => {
                let now = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
                paper
                    .out
                    .print(&format!("# Approvals\n\nWritten by Holdpoint on {now}.\n"))?;
            }
        }
        Ok(paper)
    }

    pub(super) fn question(&mut self, question: &Question) -> anyhow::Result<()> {
        let text = match self.form {
            Form::Table => block(question),
            Form::Markdown => markdown(question),
            Form::Json => {
                let comma = if self.count == 0 { "\n" } else { ",\n" };
                let json = serde_json::to_string(question)?;
                format!("{comma}{}", screen::escaped(&json))
            }
        };
        self.count += 1;
        self.out.print(&text)
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        match (self.form, self.count) {
            (Form::Json, _) => self.out.print("\n]\n")?,
            (_, 0) => self.out.print("Nobody was asked for anything.\n")?,
            _ => {}
        }
        self.out.flush()
    }
}

/// What is told of a question, in order: names and values, not yet safe to print.
fn facts(question: &Question) -> Vec<(&'static str, String)> {
    let mut facts = vec![("asked", time(question.at))];
    facts.push((
        "by",
        format!("{} ({})", question.principal, question.session),
    ));
    let again: Vec<_> = question.sessions.iter().map(SessionId::as_str).collect();
    if again.len() > 1 {
        facts.push(("asked in", again.join(", ")));
    }
    let policies: Vec<_> = question.policies.iter().map(ToString::to_string).collect();
    let reason = question.reason.as_ref().map(|it| format!(": {it}"));
    facts.push(("held by", policies.join(", ") + &reason.unwrap_or_default()));
    let groups: Vec<_> = question.groups.iter().map(String::as_str).collect();
    facts.push(("asked of", groups.join(", ")));
    for given in &question.answers {
        let name = match given.vote.verdict {
            Answer::Approve if given.break_glass => "BREAK GLASS",
            Answer::Approve => "approved",
            Answer::Deny => "denied",
        };
        let said = given.vote.comment.as_ref().map(|it| format!(": {it}"));
        let who = &given.vote.reviewer;
        let from = match given.vote.uid {
            Some(uid) => format!("uid {uid}"),
            None => "from elsewhere".to_owned(),
        };
        let text = format!("{who} ({from}) at {}", time(given.at));
        facts.push((name, text + &said.unwrap_or_default()));
    }
    for refused in &question.not_taken {
        let (who, why) = (&refused.reviewer, &refused.reason);
        facts.push(("not taken", format!("{who} at {}: {why}", time(refused.at))));
    }
    if let Some(shown) = &question.shown {
        let place = question
            .shown_in
            .map(|seq| format!(", kept by event {seq}"));
        facts.push((
            "shown",
            format!("sha256 {shown}{}", place.unwrap_or_default()),
        ));
    }
    facts.push(("ended", ended(question)));
    facts
}

fn ended(question: &Question) -> String {
    let Some(ended) = &question.ended else {
        return "not yet".into();
    };
    let by = question.used_by.as_ref().map(|it| format!(" by {it}"));
    let result = question.result.map(|result| match result {
        OutcomeResult::Completed => ", completed",
        OutcomeResult::Refused => ", not run",
        OutcomeResult::NotSent => ", not sent",
        OutcomeResult::Unknown => ", OUTCOME UNKNOWN",
        OutcomeResult::Cut => ", cut off",
    });
    let status = question.status.map(|it| format!(", status {it}"));
    format!(
        "{} at {}{}{}{}",
        ended.how,
        time(ended.at),
        by.unwrap_or_default(),
        result.unwrap_or_default(),
        status.unwrap_or_default()
    )
}

/// The exact request, as far as the record may tell it: lines, not yet safe to print.
fn request(operation: &OperationRecord) -> Vec<String> {
    let port = operation.port.map(|port| format!(":{port}"));
    let host = format!("{}{}", operation.host, port.unwrap_or_default());
    let mut lines = vec![format!(
        "{} https://{host}{}",
        operation.method, operation.path
    )];
    if operation.method.as_str().is_empty() {
        lines = vec![format!("{} {host}", operation.action)];
    }
    let pairs = |pairs: &Pairs| -> Vec<String> {
        let pair = |(name, value): &(_, _)| format!("?{name}={value}");
        pairs.as_slice().iter().map(pair).collect()
    };
    lines.extend(pairs(&operation.query));
    let content = operation.seen.as_ref().map(|seen| &seen.content);
    if let Some(
        ContentRecord::Fields(fields)
        | ContentRecord::Media {
            metadata: fields, ..
        },
    ) = content
    {
        for (path, values) in &fields.values {
            let values: Vec<_> = values.as_slice().iter().map(|it| it.as_str()).collect();
            lines.push(format!("{path} = {}", values.join(", ")));
        }
        let withheld = fields
            .withheld
            .iter()
            .map(|path| format!("{path} = [masked]"));
        lines.extend(withheld);
        if fields.more {
            lines.push("… and more".into());
        }
    }
    lines.push(format!("digest {}", operation.digest));
    lines
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub(super) fn block(question: &Question) -> String {
    let operation = &question.request;
    let mut text = format!(
        "{}  {} {}\n",
        question.approval,
        safe(operation.action.as_str()),
        safe(operation.resource.as_str())
    );
    for (name, value) in facts(question) {
        let _ = writeln!(text, "  {name:<12} {}", safe(&value));
    }
    for line in request(operation) {
        let _ = writeln!(text, "  | {}", safe(&line));
    }
    text.push('\n');
    text
}

pub(super) fn markdown(question: &Question) -> String {
    let operation = &question.request;
    let mut text = format!(
        "\n## {}: {}\n\n",
        question.approval,
        span(operation.action.as_str())
    );
    let _ = writeln!(text, "- resource: {}", span(operation.resource.as_str()));
    for (name, value) in facts(question) {
        let _ = writeln!(text, "- {name}: {}", span(&value));
    }
    let lines: Vec<_> = request(operation).iter().map(|it| safe(it)).collect();
    let lines = lines.join("\n");
    let fence = backticks(&lines, 3);
    let _ = writeln!(text, "\n{fence}text\n{lines}\n{fence}");
    text
}

/// A code span: nothing in it means anything.
fn span(text: &str) -> String {
    let text = safe(text);
    let ticks = backticks(&text, 1);
    format!("{ticks} {text} {ticks}")
}

/// More backticks in a row than there are in `text`, so that nothing in it ends what they begin.
fn backticks(text: &str, least: usize) -> String {
    let longest = text.split(|it| it != '`').map(str::len).max();
    "`".repeat(least.max(longest.unwrap_or_default() + 1))
}
