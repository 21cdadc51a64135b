//! Recorded operations, to be judged again.
//!
//! They come from the daemon, not from its files: sled lets nobody else open them, the daemon has verified the chain, and it
//! knows who may see which session.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, ensure};
use holdpoint_core::{
    catalog::Catalog,
    fields::Fields,
    groups::{Groups, classify},
    identity::Principal,
    mask::{mask_token_in, names::MASKED},
    operation::{Action, Content, Operation, Resource, Trait},
    policy::{
        asks::{Gap, Gaps},
        explain::Verdict,
    },
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cli::approvals::{lasting, word},
    control::{
        SessionDetail, SessionList,
        client::{Client, Connect},
    },
    record::{
        ContentRecord, DecisionRecord, DecisionVerdict, Event, FieldsRecord, OperationId,
        OperationRecord, OutcomeResult, PrincipalRecord, Seen,
    },
    session::SessionId,
};

/// Which operations.
#[derive(clap::Args, Debug)]
pub struct Which {
    /// Operations of these sessions; of all sessions if absent
    #[arg(long = "session", value_name = "SESSION")]
    sessions: Vec<String>,
    /// Operations of this time back from now, for example 12h or 7d; everything there is if absent
    #[arg(long, value_name = "TIME", value_parser = span)]
    last: Option<SignedDuration>,
    #[command(flatten)]
    connect: Connect,
}

fn span(text: &str) -> Result<SignedDuration, String> {
    // A day is no fixed time to jiff.
    if let Some(days) = text.strip_suffix('d') {
        let days: i64 = days.parse().map_err(|error| format!("{error}"))?;
        return Ok(SignedDuration::from_hours(days.saturating_mul(24)));
    }
    lasting(text)
}

/// An operation of the past.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) session: SessionId,
    pub(super) id: OperationId,
    pub(super) at: Timestamp,
    pub(super) decision: DecisionRecord,
    /// How it ended, if it did.
    pub(super) result: Option<OutcomeResult>,
    /// What was asked, or why that cannot be told any more.
    pub(super) asked: Result<Asked, String>,
    /// For people: the action and what it was on.
    pub(super) action: String,
    pub(super) resource: String,
}

/// What was asked, as far as it was recorded.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) principal: Principal,
    pub(super) operation: Operation,
    pub(super) gaps: Gaps,
}

impl Past {
    pub(super) fn verdict(&self) -> Verdict {
        match self.decision.verdict {
            DecisionVerdict::Allow => Verdict::Allow,
            DecisionVerdict::Hold => Verdict::Hold,
            DecisionVerdict::Deny => Verdict::Deny,
        }
    }
}

impl Which {
    /// The operations, oldest first within each session. Those of a service's own session are not among them: its hosts, not
    /// policies, decide about those.
    pub(super) async fn operations(&self) -> anyhow::Result<Vec<Past>> {
        let client = self.connect.client()?;
        let since = self.last.map(|last| Timestamp::now().checked_sub(last));
        let since = since.transpose().context("--last goes back too far")?;
        let ids = if self.sessions.is_empty() {
            all_sessions(&client, since).await?
        } else {
            self.sessions.clone()
        };
        let mut operations = Vec::new();
        for id in ids {
            let session = of_session(&client, &id).await?;
            operations.extend(
                session
                    .into_iter()
                    .filter(|it| since.is_none_or(|since| it.at >= since)),
            );
        }
        Ok(operations)
    }
}

/// One operation, wherever it is.
pub(super) async fn find(client: &Client, operation: &str) -> anyhow::Result<Past> {
    for session in all_sessions(client, None).await? {
        let operations = of_session(client, &session).await?;
        let found = operations
            .into_iter()
            .find(|it| it.id.as_str() == operation);
        if let Some(found) = found {
            return Ok(found);
        }
    }
    anyhow::bail!(
        "no session that you may see has an operation {operation}; `holdpoint sessions show SESSION` lists them"
    )
}

/// The sessions that the caller may see and that were not over before `since`, newest first.
async fn all_sessions(client: &Client, since: Option<Timestamp>) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut seen = BTreeSet::new();
    let mut path = "/v1/sessions".to_owned();
    loop {
        let page: SessionList = client.read(&path).await?;
        let mut oldest = None;
        for session in page.sessions {
            let summary = session.summary;
            if !seen.insert(summary.id.clone()) {
                continue;
            }
            oldest = Some(summary.opened_at);
            let is_over = summary.closed_at.zip(since);
            if is_over.is_none_or(|(closed, since)| closed >= since) {
                ids.push(summary.id.as_str().to_owned());
            }
        }
        match oldest {
            Some(oldest) => path = format!("/v1/sessions?until={oldest}"),
            None => return Ok(ids),
        }
    }
}

/// The operations of one session.
pub(super) async fn of_session(client: &Client, id: &str) -> anyhow::Result<Vec<Past>> {
    let id = word(id)?;
    let mut told = Told::default();
    let mut path = format!("/v1/sessions/{id}");
    loop {
        let page: SessionDetail = client.read(&path).await?;
        let summary = &page.session.summary;
        if summary.service.is_some() && summary.within.is_none() {
            return Ok(Vec::new());
        }
        for stored in page.events {
            told.hear(stored.time, stored.event)?;
        }
        match page.next {
            Some(after) => path = format!("/v1/sessions/{id}?after={after}"),
            None => break,
        }
    }
    Ok(told.operations)
}

/// What a session's events have told so far.
#[derive(Default)]
struct Told {
    principal: Option<(Principal, bool)>,
    operations: Vec<Past>,
    places: HashMap<OperationId, usize>,
}

impl Told {
    fn hear(&mut self, at: Timestamp, event: Event) -> anyhow::Result<()> {
        match event {
            Event::SessionOpened { principal, .. } => {
                self.principal = Some(recorded_principal(&principal));
            }
            Event::Intent {
                session,
                operation,
                decision,
                ..
            } => {
                ensure!(
                    self.principal.is_some(),
                    "the record does not say who {session} acts for"
                );
                let asked = match &self.principal {
                    Some((principal, whole)) => asked(principal.clone(), *whole, &operation),
                    None => Err("the principal was not recorded".to_owned()),
                };
                self.places
                    .insert(operation.id.clone(), self.operations.len());
                self.operations.push(Past {
                    session,
                    at,
                    decision,
                    result: None,
                    asked,
                    action: operation.action.to_string(),
                    resource: operation.resource.to_string(),
                    id: operation.id,
                });
            }
            Event::Outcome {
                operation, result, ..
            } => {
                if let Some(at) = self.places.get(&operation) {
                    self.operations[*at].result = Some(result);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// And whether all of it was recorded.
fn recorded_principal(record: &PrincipalRecord) -> (Principal, bool) {
    let text = |text: &crate::record::Text| text.as_str().to_owned();
    let whole = record.groups.is_whole()
        && record.claims.is_whole()
        && !record.issuer.is_cut()
        && !record.subject.is_cut();
    let claims = record.claims.as_slice().iter();
    let principal = Principal {
        issuer: text(&record.issuer),
        subject: text(&record.subject),
        groups: record.groups.as_slice().iter().map(text).collect(),
        claims: claims
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
    };
    (principal, whole)
}

fn asked(principal: Principal, whole: bool, record: &OperationRecord) -> Result<Asked, String> {
    for (what, text) in [("action", &record.action), ("resource", &record.resource)] {
        if text.is_cut() {
            return Err(format!(
                "the {what}'s name is too long to have been recorded"
            ));
        }
    }
    let mut known: BTreeSet<_> = ["method", "host", "port", "path", "now"].into();
    if record.path.is_cut() {
        known.remove("path");
    }
    let (query, query_gap) = query(record);
    let mut operation = Operation {
        action: action(record.action.as_str())?,
        resource: Resource {
            name: record.resource.to_string(),
            ..Resource::default()
        },
        method: record.method.to_string(),
        path: record.path.to_string(),
        query,
        digest: record.digest,
        ..Operation::on_host(Action::NET_CONNECT, record.host.as_str(), record.port)
    };
    let mut gaps = Gaps {
        principal: !whole,
        query: query_gap,
        resource: true,
        body: Gap::All,
        known: None,
    };
    if let Some(seen) = &record.seen {
        known.extend(["unreadable", "size"]);
        if seen.contains.is_some() {
            known.insert("contains");
        }
        operation.contains.clone_from(&seen.contains);
        gaps.resource = [&seen.project, &seen.location]
            .into_iter()
            .flatten()
            .any(|it| it.is_cut());
        gaps.body = restore(seen, &mut operation);
        match traits(&seen.traits) {
            Some(traits) => {
                known.insert("traits");
                operation.traits = traits;
            }
            None => operation.traits = BTreeSet::new(),
        }
    }
    gaps.known = Some(known);
    Ok(Asked {
        principal,
        operation,
        gaps,
    })
}

fn action(id: &str) -> Result<Action, String> {
    if [Action::UNKNOWN, Action::NET_CONNECT, Action::NET_RESOLVE].contains(&id) {
        return Ok(Action::new(id, Groups::default()));
    }
    if let Some(groups) = holdpoint_core::sql::ACTIONS.get(id) {
        return Ok(Action::new(id, *groups));
    }
    let verb = Catalog::built_in().verb(id);
    let verb = verb.ok_or_else(|| format!("this version knows no action {id:?}"))?;
    Ok(Action::new(id, classify(id, verb)))
}

fn query(record: &OperationRecord) -> (Vec<(String, String)>, Gap) {
    let pairs = record.query.as_slice().iter();
    let query: Vec<_> = pairs
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    if !record.query.is_whole() {
        return (query, Gap::All);
    }
    let is_masked = |value: &str| value == MASKED || mask_token_in(value.as_bytes()).is_some();
    let masked = query.iter().filter(|(_, value)| is_masked(value));
    let masked: BTreeSet<_> = masked.map(|(name, _)| name.clone()).collect();
    (query, gap(masked))
}

fn gap(missing: BTreeSet<String>) -> Gap {
    if missing.is_empty() {
        Gap::None
    } else {
        Gap::Values(missing)
    }
}

/// Puts what was seen into the operation; returns what is missing of the body.
fn restore(seen: &Seen, operation: &mut Operation) -> Gap {
    let text = |text: &crate::record::Text| text.as_str().to_owned();
    operation.resource.project = seen.project.as_ref().map(text);
    operation.resource.location = seen.location.as_ref().map(text);
    operation.size = seen.size;
    let (content, gap) = match &seen.content {
        ContentRecord::Empty => (Content::Empty, Gap::None),
        ContentRecord::Unreadable => (
            Content::Unreadable("it was not readable then".to_owned()),
            Gap::None,
        ),
        ContentRecord::Fields(record) => {
            let (fields, gap) = fields(record);
            (Content::Fields(fields), gap)
        }
        ContentRecord::Media { metadata, complete } => {
            let (metadata, gap) = fields(metadata);
            let complete = *complete;
            (Content::Media { metadata, complete }, gap)
        }
    };
    operation.content = content;
    gap
}

fn fields(record: &FieldsRecord) -> (Fields, Gap) {
    let values = record.values.iter().map(|(path, values)| {
        let values = values.as_slice().iter();
        let values: BTreeSet<_> = values.map(ToString::to_string).collect();
        (path.clone(), values)
    });
    let mut fields: BTreeMap<_, _> = values.collect();
    let cut = record.values.iter().filter(|(_, it)| !it.is_whole());
    let cut = cut.map(|(path, _)| path.clone());
    let withheld: BTreeSet<_> = record.withheld.iter().cloned().chain(cut).collect();
    for path in &withheld {
        fields.entry(path.clone()).or_default();
    }
    let gap = if record.more { Gap::All } else { gap(withheld) };
    (Fields(fields), gap)
}

fn traits(names: &BTreeSet<String>) -> Option<BTreeSet<Trait>> {
    names.iter().map(|name| Trait::named(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        let mut operation = Operation::on_host(Action::UNKNOWN, "sqladmin.googleapis.com", None);
        let groups = classify("sql.instances.patch", "PATCH");
        operation.action = Action::new("sql.instances.patch", groups);
        operation.method = "PATCH".into();
        operation.path = "/v1/projects/p/instances/i".into();
        operation.resource.name = "//sqladmin.googleapis.com/projects/p/instances/i".into();
        operation.resource.project = Some("p".into());
        operation.query = vec![
            ("alt".into(), "json".into()),
            ("access_token".into(), "x".into()),
        ];
        operation.traits.insert(Trait::OpenToInternet);
        operation.size.vcpus = 8;
        let field = |path: &str, value: &str| (path.to_owned(), [value.to_owned()].into());
        let fields = [
            field("settings.tier", "db-custom-8-1"),
            field("rootPassword", "hunter2"),
        ];
        operation.content = Content::Fields(Fields(fields.into()));
        operation
    }

    fn principal() -> Principal {
        Principal {
            issuer: "https://issuer.example.com".into(),
            subject: "agent".into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        }
    }

    fn through_the_record(record: &OperationRecord) -> Asked {
        let json = serde_json::to_string(record).expect("JSON");
        assert!(!json.contains("hunter2"), "{json}");
        let read: OperationRecord = serde_json::from_str(&json).expect("JSON");
        asked(principal(), true, &read).expect("it can be judged again")
    }

    #[test]
    fn an_operation_comes_back_as_policy_saw_it_but_for_secrets() {
        let operation = operation();
        let record = OperationRecord::new(OperationId::random(), &operation);
        let back = through_the_record(&record);
        assert_eq!(back.operation.action, operation.action);
        assert_eq!(back.operation.resource, operation.resource);
        assert_eq!(back.operation.traits, operation.traits);
        assert_eq!(back.operation.size, operation.size);
        assert_eq!(back.operation.method, operation.method);
        assert_eq!(back.operation.path, operation.path);
        assert_eq!(back.operation.digest, operation.digest);
        assert_eq!(
            back.gaps.body,
            Gap::Values(["rootPassword".to_owned()].into())
        );
        assert_eq!(
            back.gaps.query,
            Gap::Values(["access_token".to_owned()].into())
        );
        let Content::Fields(Fields(fields)) = &back.operation.content else {
            panic!("it has fields")
        };
        assert!(fields["settings.tier"].contains("db-custom-8-1"));
        assert!(fields["rootPassword"].is_empty());
    }

    #[test]
    fn what_an_older_daemon_did_not_record_is_not_known() {
        let mut record = OperationRecord::new(OperationId::random(), &operation());
        record.seen = None;
        let back = through_the_record(&record);
        assert_eq!(back.gaps.body, Gap::All);
        assert!(back.gaps.resource);
        let known = back.gaps.known.expect("not all is known");
        assert!(
            known.contains("method") && !known.contains("traits") && !known.contains("unreadable")
        );
    }

    #[test]
    fn an_action_of_another_version_is_not_guessed_at() {
        let mut operation = operation();
        operation.action = Action::new("sql.instances.levitate", Groups::default());
        let record = OperationRecord::new(OperationId::random(), &operation);
        assert!(asked(principal(), true, &record).is_err());
    }
}
