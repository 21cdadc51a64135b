//! Events of the record in one line of English each.

use holdpoint_core::approval::Answer;

use crate::{
    postgres::masking::ROWS,
    record::{
        BodyRecord, DecisionRecord, DecisionVerdict, Event, OperationRecord, OutcomeResult,
        Process, Purged, StatementAnswer, Text, Way,
    },
    refusals::Refused,
};

/// One line; not yet safe to print.
pub(crate) fn described(event: &Event) -> String {
    match event {
        Event::DaemonStarted { version } => format!("daemon      started, version {version}"),
        Event::PoliciesLoaded { policies, mode, .. } => {
            format!(
                "policy      {policies} policies loaded, mode {}",
                mode.name()
            )
        }
        Event::ConfigurationLoaded { file, sha256 } => {
            format!("daemon      configuration {file} loaded, SHA-256 {sha256}")
        }
        Event::RecordPurged {
            what,
            first,
            last,
            reason,
        } => {
            let what = match what {
                Purged::Bodies => "bodies",
                Purged::Events => "events",
            };
            format!("record      {what} of {first} to {last} purged: {reason}")
        }
        Event::LegalHold { by, reason, .. } => format!("record      legal hold by {by}: {reason}"),
        Event::LegalHoldReleased { by, reason, .. } => {
            format!("record      legal hold released by {by}: {reason}")
        }
        Event::DaemonStopped { reason } => format!("daemon      stopped: {reason}"),
        Event::EnforcementLost { what } => format!("daemon      enforcement lost: {what}"),
        Event::SessionOpened {
            cgroup_id,
            binaries,
            ..
        } => {
            let begins = binaries
                .iter()
                .map(|it| format!(", {} (sha256 {})", it.path, it.sha256));
            let begins: String = begins.collect();
            format!("session     opened, cgroup {cgroup_id}{begins}")
        }
        Event::SessionAdopted { cgroup_id, .. } => {
            format!("session     adopted by a new daemon, cgroup {cgroup_id}")
        }
        Event::SessionRefused { user, reason } => {
            format!("session     refused to {}: {reason}", user.name)
        }
        Event::SessionClosed { reason, .. } => format!("session     closed: {reason}"),
        Event::Connection {
            connection,
            destination,
            name,
            process,
            ..
        } => format!(
            "connection  {connection} to {destination}{}{}",
            within(" ", name.as_ref()),
            from(process.as_ref())
        ),
        Event::ConnectionCut {
            connection,
            destination,
            reason,
            request_bytes,
            response_bytes,
            ..
        } => format!(
            "connection  {connection} to {destination} cut after {request_bytes} bytes sent and {response_bytes} received: {reason}"
        ),
        Event::ConnectionRefused {
            connection,
            destination,
            reason,
            process,
            ..
        } => {
            let destination = destination.map_or_else(|| "?".into(), |it| it.to_string());
            let from = from(process.as_ref());
            format!("connection  {connection} to {destination} refused: {reason}{from}")
        }
        Event::Refused {
            refused,
            pid,
            count,
        } => refusal(refused, *pid, *count),
        Event::RefusedMore { count, .. } => format!("refused     {count} more, in other ways"),
        Event::ContainerCreated {
            container,
            image,
            command,
            ..
        } => {
            let words: Vec<_> = command.as_slice().iter().map(Text::as_str).collect();
            format!(
                "container   {container} of {image} made: {}",
                words.join(" ")
            )
        }
        Event::RequestRefused {
            request, reason, ..
        } => format!("request     {request} refused: {reason}"),
        Event::Intent {
            operation,
            decision,
            ..
        } => intent(operation, decision),
        Event::LookUp {
            action,
            resource,
            problem,
            ..
        } => {
            let problem = within(": ", problem.as_ref());
            format!("look-up     {action} {resource}{problem}")
        }
        Event::Hold {
            operation,
            approval,
            groups,
            joined,
            ..
        } => {
            let groups: Vec<_> = groups.iter().map(String::as_str).collect();
            let verb = if *joined { "joins" } else { "asks" };
            format!(
                "hold        {operation} {verb} {approval} of {}",
                groups.join(", ")
            )
        }
        Event::ApprovalRefused {
            approval,
            reviewer,
            reason,
            ..
        } => format!("approval    {approval}: answer of {reviewer} not taken: {reason}"),
        Event::ApprovalDecided { approval, vote, .. } => {
            let verb = match vote.verdict {
                Answer::Approve => "approved",
                Answer::Deny => "denied",
            };
            let comment = within(": ", vote.comment.as_ref());
            format!(
                "approval    {approval} {verb} by {}{comment}",
                vote.reviewer
            )
        }
        Event::BreakGlass { approval, vote, .. } => format!(
            "approval    {approval} BREAK GLASS: approved alone by {}{}",
            vote.reviewer,
            within(": ", vote.comment.as_ref())
        ),
        Event::GrantMade { made, .. } => {
            let (grant, over) = (&made.grant, made.grant.over());
            format!(
                "grant       {} by {}: {} on {} {} until {}{}",
                made.id,
                made.by,
                grant.action(),
                over.scope(),
                over.name(),
                grant.until(),
                within(": ", made.comment.as_ref())
            )
        }
        Event::GrantUsed {
            grant, operation, ..
        } => format!("grant       {grant} used by {operation}"),
        Event::GrantEnded {
            grant, by, reason, ..
        } => format!(
            "grant       {grant} ended{}: {reason}",
            within(" by ", by.as_ref())
        ),
        Event::ReviewerLogout { user } => format!("logout      {}", user.name),
        Event::ReviewerLogin {
            user,
            principal,
            until,
        } => format!(
            "reviewer    {} is {}#{} until {until}",
            user.name, principal.issuer, principal.subject
        ),
        Event::ApprovalUsed {
            approval,
            operation,
            ..
        } => format!("approval    {approval} used by {operation}"),
        Event::ApprovalExpired { approval, .. } => format!("approval    {approval} expired"),
        Event::ApprovalLapsed { approval, .. } => format!("approval    {approval} lapsed unused"),
        Event::ApprovalWithdrawn {
            approval, reason, ..
        } => format!("approval    {approval} withdrawn: {reason}"),
        Event::Forwarded { operation, .. } => format!("forwarded   {operation}"),
        Event::Answered {
            operation,
            status,
            after_us,
            ..
        } => format!(
            "answered    {operation} with status {status} after {}.{:03} ms",
            after_us / 1000,
            after_us % 1000
        ),
        Event::AnswerWithheld {
            operation, reason, ..
        } => format!("withheld    the answer to {operation}: {reason}"),
        Event::Body {
            operation, body, ..
        } => passed_body(operation.as_str(), body),
        Event::Outcome {
            operation,
            status,
            result,
            response_bytes,
            statement,
            ..
        } => {
            let said = statement.as_ref().map(StatementAnswer::described);
            let said = said.filter(|it| !it.is_empty());
            let said = said.map_or_else(String::new, |it| format!(", {it}"));
            let status = status.map_or(said, |status| format!(", status {status}"));
            outcome(operation.as_str(), &status, *result, *response_bytes)
        }
        Event::ControlRefused {
            user,
            request,
            reason,
            ..
        } => format!("control     {request} refused to {}: {reason}", user.name),
    }
}

/// What exactly was asked for, in lines; not yet safe to print. Nothing where the event's line tells all.
pub(super) fn asked(event: &Event) -> Option<String> {
    let Event::Intent { operation, .. } = event else {
        return None;
    };
    match operation.method.as_str() {
        "" => operation
            .statement
            .as_ref()
            .map(|it| it.as_str().to_owned()),
        method => Some(format!("{method} {}{}", operation.host, operation.path)),
    }
}

/// A stored body, or a piece of one, as people read it: rows of a database with bars between their values.
pub(super) fn readable(body: &BodyRecord, text: &str) -> String {
    let is_rows = body
        .content_type
        .as_ref()
        .is_some_and(|it| it.as_str() == ROWS);
    if !is_rows {
        return text.to_owned();
    }
    let line = |line: &str| match serde_json::from_str::<Vec<Option<String>>>(line) {
        Ok(values) => {
            let values = values
                .into_iter()
                .map(|it| it.unwrap_or_else(|| "NULL".to_owned()));
            values.collect::<Vec<_>>().join(" | ")
        }
        Err(_) => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn passed_body(operation: &str, body: &BodyRecord) -> String {
    let way = match body.way {
        Way::Request => "request",
        Way::Response => "response",
        Way::Asked => "as people were asked about it",
    };
    let kind = within(", ", body.content_type.as_ref());
    let kept = match (&body.kept, body.cut) {
        (None, _) => ", not stored",
        (Some(_), true) => ", its beginning is stored",
        (Some(_), false) => "",
    };
    let complete = if body.complete { "" } else { ", broken off" };
    format!(
        "body        {operation} {way}, {} bytes{kind}{complete}{kept}",
        body.bytes
    )
}

fn refusal(refused: &Refused, pid: Option<u32>, count: u64) -> String {
    let by = refused.by.name();
    let to = within(" to ", refused.destination.as_ref());
    let process = match (&refused.process, pid) {
        (Some(process), Some(pid)) => format!(" from {pid} ({process})"),
        _ => String::new(),
    };
    format!(
        "refused     by the {by}, {count} times{to}: {}{process}",
        refused.reason
    )
}

fn intent(operation: &OperationRecord, decision: &DecisionRecord) -> String {
    let verdict = match decision.verdict {
        DecisionVerdict::Allow => "allowed",
        DecisionVerdict::Hold => "held",
        DecisionVerdict::Deny => "denied",
    };
    let policies: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
    let policies = match policies.as_slice() {
        [] => String::new(),
        some => format!(" by {}", some.join(", ")),
    };
    let reason = within(": ", decision.reason.as_ref());
    let verdict = match decision.observed {
        true => format!("PASSED, policy is only observed: it would have been {verdict}"),
        false => verdict.to_owned(),
    };
    format!(
        "operation   {} {} {} {verdict}{policies}{reason}",
        operation.id, operation.action, operation.resource
    )
}

fn outcome(operation: &str, status: &str, result: OutcomeResult, bytes: u64) -> String {
    let result = match result {
        OutcomeResult::Completed => "completed",
        OutcomeResult::Refused => "not run",
        OutcomeResult::NotSent => "not sent: the upstream could not be reached",
        OutcomeResult::Cut => "CUT: what had been sent by then may have happened",
        OutcomeResult::Unknown => "OUTCOME UNKNOWN: it may have happened, the answer was lost",
    };
    format!("outcome     {operation} {result}{status}, {bytes} bytes returned")
}

fn from(process: Option<&Process>) -> String {
    let Some(process) = process else {
        return String::new();
    };
    let arguments = process.arguments.as_slice();
    let words: Vec<_> = arguments.iter().take(6).map(Text::as_str).collect();
    format!(" from {} ({})", process.pid, words.join(" "))
}

fn within(before: &str, text: Option<&Text>) -> String {
    text.map_or_else(String::new, |text| format!("{before}{text}"))
}
