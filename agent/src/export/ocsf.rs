//! OCSF 1.8.0 (https://schema.ocsf.io/1.8.0/classes/api_activity), class API Activity with the profile `security_control`: one event an
//! operation, one a line. What it has no field for stands in `unmapped`.

use std::io::Write;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{CANNOT_WRITE, Form, Whole, har::url, story::Story};
use crate::record::{DecisionVerdict, OutcomeResult};

const VERSION: &str = "1.8.0";
const API_ACTIVITY: u64 = 6003;

pub(super) struct Ocsf;

impl<W: Write> Form<W> for Ocsf {
    const BODIES: bool = false;

    fn operation(&mut self, out: &mut W, whole: &Whole<'_>) -> anyhow::Result<()> {
        writeln!(out, "{}", event(whole)).context(CANNOT_WRITE)
    }

    fn finish(self, _: &mut W) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What API Activity calls it: create, read, update, delete or other.
fn activity(story: &Story) -> (u64, &'static str) {
    let action = story.operation.action.as_str();
    let verb = action.rsplit('.').next().unwrap_or_default();
    let begins = |words: &[&str]| words.iter().any(|word| verb.starts_with(word));
    if begins(&["insert", "create", "add", "copy_from"]) {
        (1, "Create")
    } else if begins(&[
        "get",
        "list",
        "aggregatedList",
        "search",
        "query",
        "read",
        "select",
        "fetch",
        "copy_to",
        "show",
        "explain",
    ]) {
        (2, "Read")
    } else if begins(&["update", "patch", "set", "replace", "alter", "merge"]) {
        (3, "Update")
    } else if begins(&["delete", "remove", "destroy", "drop", "truncate"]) {
        (4, "Delete")
    } else {
        (99, "Other")
    }
}

/// Whether it passed: allowed, or held and let through.
fn passed(story: &Story) -> Option<bool> {
    match story.decision.verdict {
        _ if story.decision.observed => Some(true),
        DecisionVerdict::Allow => Some(true),
        DecisionVerdict::Deny => Some(false),
        DecisionVerdict::Hold => match story.outcome.as_ref()?.result {
            OutcomeResult::Refused => Some(false),
            OutcomeResult::Completed
            | OutcomeResult::NotSent
            | OutcomeResult::Unknown
            | OutcomeResult::Cut => Some(true),
        },
    }
}

fn severity(story: &Story) -> (u64, &'static str) {
    let alone = |hold: &super::story::HoldStory| hold.answers.iter().any(|it| it.break_glass);
    match story.decision.verdict {
        _ if story.hold.as_ref().is_some_and(alone) => (4, "High"),
        DecisionVerdict::Hold => (3, "Medium"),
        DecisionVerdict::Deny => (2, "Low"),
        DecisionVerdict::Allow => (1, "Informational"),
    }
}

fn event(whole: &Whole<'_>) -> Value {
    let story = whole.story;
    let (operation, decision) = (&story.operation, &story.decision);
    let (activity_id, activity_name) = activity(story);
    let (severity_id, severity) = severity(story);
    let (action_id, action, disposition_id, disposition) = match passed(story) {
        Some(true) => (1, "Allowed", 1, "Allowed"),
        Some(false) => (2, "Denied", 2, "Blocked"),
        None => (0, "Unknown", 0, "Unknown"),
    };
    let failed = story.answer().is_some_and(|it| it.sqlstate.is_some());
    let (status_id, status) = match story.outcome.as_ref().map(|it| it.result) {
        Some(OutcomeResult::Completed) if story.status().is_none_or(|it| it < 400) && !failed => {
            (1, "Success")
        }
        Some(OutcomeResult::Unknown) | None => (0, "Unknown"),
        Some(_) => (2, "Failure"),
    };
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": API_ACTIVITY,
        "class_name": "API Activity",
        "type_uid": API_ACTIVITY * 100 + activity_id,
        "type_name": format!("API Activity: {activity_name}"),
        "time": story.at.as_millisecond(),
        "start_time": story.at.as_millisecond(),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "message": format!("{} {}", operation.action, operation.resource),
        "metadata": metadata(story),
        "actor": actor(whole),
        "src_endpoint": {
            "uid": story.session.as_str(),
            "name": format!("Holdpoint session {}", story.session),
        },
        "dst_endpoint": {"hostname": operation.host},
        "api": {
            "operation": operation.action,
            "service": {"name": operation.host},
            "request": {"uid": operation.id.as_str()},
        },
        "resources": [{"name": operation.resource, "uid": operation.resource}],
        "unmapped": {
            "digest": operation.digest,
            "decision": decision,
            "hold": story.hold,
            "grant": story.grant,
            "result": story.outcome.as_ref().map(|it| it.result),
            "statement": story.statement(),
            "answer": story.answer(),
        },
    });
    fill(&mut event, story);
    event
}

/// What not every operation has.
fn fill(event: &mut Value, story: &Story) {
    let (operation, decision) = (&story.operation, &story.decision);
    if !operation.method.as_str().is_empty() {
        event["http_request"] = json!({
            "http_method": operation.method,
            "url": {
                "url_string": url(story),
                "hostname": operation.host,
                "path": operation.path,
                "scheme": "https",
            },
        });
    }
    if let Some(port) = operation.port {
        event["dst_endpoint"]["port"] = port.into();
    }
    if let Some(status) = story.status() {
        event["status_code"] = status.to_string().into();
        event["api"]["response"] = json!({"code": status});
        event["http_response"] = json!({"code": status});
        if let Some(response) = &story.response {
            event["http_response"]["length"] = response.record.bytes.into();
        }
    }
    if let Some(sqlstate) = story.answer().and_then(|it| it.sqlstate.as_ref()) {
        event["status_code"] = sqlstate.as_str().into();
    }
    if let Some(outcome) = &story.outcome {
        event["end_time"] = outcome.at.as_millisecond().into();
        event["duration"] = (story.lasted_us() / 1000).into();
    }
    if let Some(reason) = &decision.reason {
        event["status_detail"] = reason.as_str().into();
    }
    let names: Vec<_> = decision.policies.iter().map(|it| it.id.as_str()).collect();
    if !names.is_empty() {
        let texts: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
        event["policy"] = json!({"name": names.join(", "), "desc": texts.join(", ")});
    }
    if let Some(hold) = &story.hold {
        let said = hold.answers.iter().map(|answer| {
            json!({
                "decision": format!("{:?} by {}", answer.vote.verdict, answer.vote.reviewer),
                "policy": {"uid": hold.approval.as_str(), "name": names.join(", ")},
            })
        });
        event["authorizations"] = said.collect();
    }
}

fn metadata(story: &Story) -> Value {
    json!({
        "version": VERSION,
        "uid": story.operation.id.as_str(),
        "correlation_uid": story.session.as_str(),
        "sequence": story.seq,
        "profiles": ["security_control"],
        "log_name": "record",
        "product": {
            "name": "Holdpoint",
            "vendor_name": "Holdpoint",
            "version": env!("CARGO_PKG_VERSION"),
        },
    })
}

fn actor(whole: &Whole<'_>) -> Value {
    let session = whole.session;
    let (issuer, subject) = session
        .principal
        .split_once('#')
        .unwrap_or(("", &session.principal));
    json!({
        "user": {"uid": session.principal, "name": subject},
        "session": {
            "uid": session.id.as_str(),
            "issuer": issuer,
            "created_time": session.opened_at.as_millisecond(),
        },
        // The command that the session was opened for: one of each.
        "process": {
            "uid": session.id.as_str(),
            "cmd_line": crate::cli::sessions::command_line(&session.command),
            "user": {"uid": session.user.uid.to_string(), "name": session.user.name},
        },
    })
}
