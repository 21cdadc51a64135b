//! What a client is told when an operation does not happen: a native error, with a message that stands alone.

use http::{HeaderMap, header};
use serde_json::json;

use crate::{
    operation::{Content, Operation, Trait},
    policy::{Denial, HoldRule},
    sql,
};

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Policy, or a reviewer, said no.
    Denied,
    /// Policy, or a reviewer, said no, and the same can be had in another way, which clients take by themselves when they are told.
    OtherWay,
    /// A person has to approve it first, and the client should ask again once that is done.
    Pending,
    /// An identical request, sent again while this one waited, has run instead.
    UsedByResend,
    /// The request cannot be judged as it stands.
    Malformed,
    /// Holdpoint could not do its own part (record, credential), so nothing was sent.
    NotReady,
    /// Google could not be reached, or its answer was lost.
    Upstream,
    /// Google has answered, and the answer may not be passed on.
    Withheld,
    /// It carries what stands for a masked value.
    MaskToken,
    /// The client itself called it off while people were asked.
    CalledOff,
}

impl Kind {
    /// The HTTP status. A refusal is never 401, 429 or 5xx: clients would send the request again, up to 13 times.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Denied
            | Self::OtherWay
            | Self::Pending
            | Self::UsedByResend
            | Self::NotReady
            | Self::Withheld
            | Self::MaskToken
            | Self::CalledOff => 403,
            Self::Malformed => 400,
            Self::Upstream => 502,
        }
    }

    /// `google.rpc.Code` as text and number (google/rpc/code.proto).
    fn rpc_code(self) -> (&'static str, u8) {
        match self {
            Self::Denied
            | Self::Pending
            | Self::UsedByResend
            | Self::NotReady
            | Self::Withheld
            | Self::MaskToken => ("PERMISSION_DENIED", 7),
            Self::OtherWay => ("FAILED_PRECONDITION", 9),
            Self::CalledOff => ("CANCELLED", 1),
            Self::Malformed => ("INVALID_ARGUMENT", 3),
            Self::Upstream => ("UNAVAILABLE", 14),
        }
    }

    /// `google.rpc.ErrorInfo.reason`.
    fn reason(self) -> &'static str {
        match self {
            Self::Denied | Self::OtherWay => "HOLDPOINT_DENIED",
            Self::Pending => "HOLDPOINT_APPROVAL_PENDING",
            Self::UsedByResend => "HOLDPOINT_RUN_BY_RESEND",
            Self::Malformed => "HOLDPOINT_MALFORMED_REQUEST",
            Self::NotReady => "HOLDPOINT_NOT_READY",
            Self::Upstream => "HOLDPOINT_UPSTREAM_UNAVAILABLE",
            Self::Withheld => "HOLDPOINT_ANSWER_WITHHELD",
            Self::MaskToken => "HOLDPOINT_MASK_TOKEN",
            Self::CalledOff => "HOLDPOINT_CALLED_OFF",
        }
    }
}

/// One refusal: what happened, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// The message; stands alone, because many clients print nothing else.
    pub message: String,
    facts: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal in these words.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            facts: Vec::new(),
        }
    }

    /// Policy denies the operation.
    #[must_use]
    pub fn denied(operation: &Operation, denial: &Denial) -> Self {
        let message = format!(
            "Holdpoint denied this: {} Trying again does not help; ask the owners of the policy if this should be possible.",
            sentence(&denial.reason),
        );
        let policies: Vec<String> = denial.policies.iter().map(ToString::to_string).collect();
        Self::new(Kind::Denied, message)
            .about(operation)
            .with("policies", policies.join(", "))
    }

    /// The same, where clients know another way to what they want: Cloud SQL connectors go to port 3307 instead of `SqlDataService`.
    #[must_use]
    pub fn with_another_way(mut self) -> Self {
        if self.kind == Kind::Denied {
            self.kind = Kind::OtherWay;
        }
        self
    }

    /// It was let through, and broken off: `reason` is why it may no longer go on.
    #[must_use]
    pub fn cut(reason: &str) -> Self {
        let message = format!(
            "Holdpoint broke this off while it was being sent: {} What had been sent may have had its effect. Trying again does \
             not help; ask the owners of the policy if this should be possible.",
            sentence(reason),
        );
        Self::new(Kind::Denied, message)
    }

    /// The request cannot be judged.
    #[must_use]
    pub fn malformed(problem: &str) -> Self {
        Self::new(
            Kind::Malformed,
            format!(
                "Holdpoint refused this request without sending it: {}",
                sentence(problem)
            ),
        )
    }

    /// People have to approve it first and the client cannot wait any longer on this connection.
    #[must_use]
    pub fn pending(operation: &Operation, approval: &str, rules: &[HoldRule]) -> Self {
        let message = format!(
            "Holdpoint holds {} until {} it{}. Approval {approval} is pending: once it is approved, run the same command again and it passes.",
            describe(operation),
            who_approves(rules),
            why(rules),
        );
        Self::new(Kind::Pending, message)
            .about(operation)
            .with("approval", approval)
    }

    /// The client called it off.
    #[must_use]
    pub fn called_off(operation: &Operation, approval: &str) -> Self {
        let message = format!(
            "{} was cancelled by its client while Holdpoint held it. It was not run, and approval {approval} is withdrawn.",
            describe(operation),
        );
        Self::new(Kind::CalledOff, message)
            .about(operation)
            .with("approval", approval)
    }

    /// A reviewer said no.
    #[must_use]
    pub fn reviewer_denied(
        operation: &Operation,
        approval: &str,
        reviewer: &str,
        comment: Option<&str>,
    ) -> Self {
        let comment =
            comment.map_or_else(String::new, |text| format!(" with the comment \"{text}\""));
        let message = format!(
            "{reviewer} denied {}{comment} (approval {approval}). {}; talk to {reviewer} before trying again.",
            describe(operation),
            not_sent(operation),
        );
        Self::new(Kind::Denied, message)
            .about(operation)
            .with("approval", approval)
    }

    /// Nobody answered in time.
    #[must_use]
    pub fn expired(operation: &Operation, approval: &str, rules: &[HoldRule]) -> Self {
        let message = format!(
            "Holdpoint held {} until {} it, and nobody did in time (approval {approval} has expired). {}; run it again to ask again.",
            describe(operation),
            who_approves(rules),
            not_sent(operation),
        );
        Self::new(Kind::Denied, message)
            .about(operation)
            .with("approval", approval)
    }

    /// The client sent the same request again, and that one ran.
    #[must_use]
    pub fn used_by_resend(operation: &Operation, approval: &str) -> Self {
        let message = format!(
            "{} was approved once ({approval}) and has been run by an identical request sent after this one. It was not run a second time.",
            describe(operation),
        );
        Self::new(Kind::UsedByResend, message)
            .about(operation)
            .with("approval", approval)
    }

    /// Policy was replaced while people were asked, and no longer says the same.
    #[must_use]
    pub fn overtaken(operation: &Operation) -> Self {
        let message = format!(
            "While Holdpoint held {}, the policy about it changed, or what it is about, so its approval no longer counts. {}; run it again to have it decided anew.",
            describe(operation),
            not_sent(operation),
        );
        Self::new(Kind::Denied, message).about(operation)
    }

    /// The daemon ends; the question stays.
    #[must_use]
    pub fn interrupted(operation: &Operation, approval: &str) -> Self {
        let message = format!(
            "Holdpoint's daemon is stopping or being upgraded while {} waits for approval {approval}. {}, and the question stays: run it again in a moment, and it goes on waiting, or goes through once it is approved.",
            describe(operation),
            not_sent(operation),
        );
        Self::new(Kind::Pending, message)
            .about(operation)
            .with("approval", approval)
    }

    /// The grant that let it pass is gone.
    #[must_use]
    pub fn grant_over(operation: &Operation, grant: &str) -> Self {
        let message = format!(
            "{} was covered by the grant {grant}, which was revoked or ended while the request was on its way. {}; run it again to have people asked about it.",
            describe(operation),
            not_sent(operation),
        );
        Self::new(Kind::Denied, message)
            .about(operation)
            .with("grant", grant)
    }

    /// Adds whose request it was: to the message too, because many clients print nothing else.
    #[must_use]
    pub fn in_session(mut self, session: &str) -> Self {
        self.message = format!("{} (Holdpoint session {session})", self.message);
        self.with("session", session)
    }

    /// Adds what the operation is.
    #[must_use]
    pub fn about(self, operation: &Operation) -> Self {
        let about = self
            .with("action", operation.action.id())
            .with("resource", &operation.resource.name);
        match why_opaque(operation) {
            Some(why) => about.with("opaque", why),
            None => about,
        }
    }

    /// The facts, for programs and for those who want to know more than the message says.
    #[must_use]
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.facts
    }

    /// Adds a fact for programs that read `ErrorInfo.metadata`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((key, value.into()));
        self
    }

    /// Google's JSON error model (<https://cloud.google.com/apis/design/errors>), in the older form too that storage, compute
    /// and BigQuery clients read.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (status, _) = self.kind.rpc_code();
        let metadata: serde_json::Map<String, serde_json::Value> = self
            .facts
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        json!({"error": {
            "code": self.kind.status(),
            "message": self.message,
            "status": status,
            "errors": [{"message": self.message, "domain": "holdpoint", "reason": "forbidden"}],
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": self.kind.reason(),
                "domain": "holdpoint",
                "metadata": metadata,
            }],
        }})
        .to_string()
    }

    /// The error document of the Cloud Storage XML API (<https://cloud.google.com/storage/docs/xml-api/reference-status>).
    #[must_use]
    pub fn to_xml(&self) -> String {
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>{}</Message></Error>",
            xml_text(&self.message)
        )
    }

    /// `grpc-status` and `grpc-message` of a Trailers-Only response
    /// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
    #[must_use]
    pub fn to_grpc(&self) -> (String, String) {
        const KEEP: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
        let message = percent_encoding::utf8_percent_encode(&self.message, KEEP).to_string();
        (self.kind.rpc_code().1.to_string(), message)
    }
}

/// The form a client understands an error in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Google's JSON error.
    Json,
    /// The XML API's error document.
    Xml,
    /// gRPC status.
    Grpc,
}

impl Dress {
    /// The form that suits the sender of this request.
    #[must_use]
    pub fn of(host: &str, path: &str, headers: &HeaderMap) -> Self {
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if content_type.starts_with("application/grpc") {
            return Self::Grpc;
        }
        let storage = host == "storage.googleapis.com" || host.ends_with(".storage.googleapis.com");
        let json_path = [
            "/storage/",
            "/upload/",
            "/resumable/",
            "/download/",
            "/batch",
        ]
        .iter()
        .any(|prefix| path.starts_with(prefix));
        if storage && !json_path {
            Self::Xml
        } else {
            Self::Json
        }
    }
}

/// What a client that can be talked to is told while it waits.
#[must_use]
pub fn waiting(operation: &Operation, approval: &str, rules: &[HoldRule]) -> String {
    let limit = match operation.traits.contains(&Trait::InTransaction) {
        true => " A transaction is open, so it waits 60 s at most.",
        false => "",
    };
    let opaque =
        why_opaque(operation).map(|why| format!(" It cannot be seen through: {}", sentence(&why)));
    format!(
        "Holdpoint holds {} until {} it{}: approval {approval}.{}{} {}",
        describe(operation),
        who_approves(rules),
        why(rules),
        opaque.unwrap_or_default(),
        limit,
        match operation.action.id() {
            sql::UNPARSED =>
                "If that is a slip, cancel and correct it: cancelling withdraws the question.",
            _ => "Cancelling withdraws the question.",
        },
    )
}

/// Why nobody can tell what SQL does.
fn why_opaque(operation: &Operation) -> Option<String> {
    let Content::Fields(fields) = &operation.content else {
        return None;
    };
    let reasons = operation.is_sql().then(|| fields.0.get("reason"))??;
    let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
    Some(reasons.join("; "))
}

/// Where it did not get to.
fn not_sent(operation: &Operation) -> &'static str {
    match operation.is_sql() {
        true => "It did not reach the database",
        false => "Nothing was sent to Google",
    }
}

/// `sql.instances.delete on //sqladmin.googleapis.com/...`, for messages.
#[must_use]
pub fn describe(operation: &Operation) -> String {
    if operation.resource.name.is_empty() {
        operation.action.id().to_owned()
    } else {
        format!("{} on {}", operation.action.id(), operation.resource.name)
    }
}

fn who_approves(rules: &[HoldRule]) -> String {
    let mut parts: Vec<String> = rules
        .iter()
        .map(|rule| match rule.min_approvals {
            0 | 1 => format!("a reviewer of group \"{}\" approves", rule.group),
            n => format!("{n} reviewers of group \"{}\" approve", rule.group),
        })
        .collect();
    parts.dedup();
    parts.join(" and ")
}

fn why(rules: &[HoldRule]) -> String {
    let reasons: Vec<&str> = rules
        .iter()
        .filter_map(|rule| rule.reason.as_deref())
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join("; "))
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::policy::PolicyRef;

    fn operation() -> Operation {
        Operation::on_host("net.connect", "example.com", Some(443))
    }

    #[test]
    fn no_refusal_makes_clients_send_again() {
        for kind in [
            Kind::Denied,
            Kind::Pending,
            Kind::UsedByResend,
            Kind::Malformed,
            Kind::NotReady,
        ] {
            let status = kind.status();
            assert!(
                (400..500).contains(&status) && status != 401 && status != 429,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn json_error_has_message_and_error_info() {
        let denial = Denial {
            reason: "net.connect on example.com is forbidden by policy open (40-denies.cedar:7)"
                .into(),
            policies: vec![PolicyRef {
                id: "open".into(),
                file: "40-denies.cedar".into(),
                line: 7,
                sha256: None,
            }],
        };
        let refusal = Refusal::denied(&operation(), &denial).in_session("s-1");
        let json: serde_json::Value = serde_json::from_str(&refusal.to_json()).expect("valid JSON");
        let error = &json["error"];
        assert_eq!(error["code"], 403);
        assert!(error["message"].as_str().is_some_and(|text| {
            text.contains("forbidden by policy open (40-denies.cedar:7). ")
                && text.ends_with("(Holdpoint session s-1)")
        }));
        assert_eq!(error["details"][0]["metadata"]["session"], "s-1");
    }

    #[test]
    fn pending_names_the_approval_and_what_to_do() {
        let rule = HoldRule {
            policy: PolicyRef {
                id: "d".into(),
                file: "f".into(),
                line: 1,
                sha256: None,
            },
            group: "reviewers".into(),
            min_approvals: 2,
            hold_for: Duration::from_secs(900),
            reason: Some("deletes data".into()),
            grantable: BTreeSet::new(),
        };
        let refusal = Refusal::pending(&operation(), "ap-1", &[rule]);
        assert!(
            refusal
                .message
                .contains("2 reviewers of group \"reviewers\" approve")
        );
        assert!(refusal.message.contains("(deletes data)"));
        assert!(refusal.message.contains("ap-1") && refusal.message.contains("again"));
    }

    #[test]
    fn of_a_statement_it_says_what_it_did_not_reach_and_why_it_is_opaque() {
        let sql = crate::policy::suite::RawSql {
            text: "selec 1".to_owned(),
            instance: None,
            database: "shop".to_owned(),
            user: "app".to_owned(),
        };
        let operation = &sql.operations().expect("a statement")[0];
        let denied = Refusal::reviewer_denied(operation, "ap-1", "ann", None);
        assert!(
            denied.message.contains("It did not reach the database"),
            "{denied:?}"
        );
        let opaque = denied.facts().iter().find(|(name, _)| *name == "opaque");
        assert!(
            opaque.is_some_and(|(_, why)| why.contains("syntax error")),
            "{denied:?}"
        );
        let waiting = waiting(operation, "ap-1", &[]);
        assert!(
            waiting.contains("syntax error") && waiting.contains("a slip"),
            "{waiting}"
        );
    }

    #[test]
    fn xml_and_grpc_escape_what_they_must() {
        let refusal = Refusal::new(Kind::Denied, "a<b>&c\n100%");
        assert!(refusal.to_xml().contains("a&lt;b&gt;&amp;c"));
        assert_eq!(refusal.to_grpc(), ("7".into(), "a<b>&c%0A100%25".into()));
    }
}
