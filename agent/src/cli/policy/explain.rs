//! `holdpoint policy explain`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use holdpoint_core::{
    catalog::Catalog,
    identity::Principal,
    operation::Operation,
    policy::{
        Policies,
        asks::Gaps,
        explain::{Effect, Explanation, Finding, Match, Verdict},
        suite::{RawRequest, RawSql, Suite, Trials},
    },
    recognise::Malformed,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    asked::operations,
    complain, load,
    past::{self, Past},
    test::load_with_bases,
};
use crate::{
    cli::approvals::screen::{self, Output, safe},
    config::{Config, DEFAULT_PATH},
    control::client::Connect,
    policy_dir::read_files,
};

/// Say why an operation gets its decision: an operation of the record, a case, or a request
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An operation (op-...) or a session (s-...) of the record
    #[arg(conflicts_with_all = ["case", "url", "sql"], required_unless_present_any = ["case", "url", "sql"])]
    id: Option<String>,
    /// The policies' directory; the configuration's if absent
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// A case: FILE.test.toml, a colon, and its name or line
    #[arg(long, value_name = "FILE:CASE", conflicts_with_all = ["url", "sql"])]
    case: Option<String>,
    #[command(flatten)]
    request: Request,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// A request, and who makes it.
#[derive(clap::Args, Debug)]
struct Request {
    /// The verb of a request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The URL of a request, for example https://sqladmin.googleapis.com/v1/projects/p/instances/i
    #[arg(long)]
    url: Option<String>,
    /// A header of it, for example 'content-type: application/json'; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Its body, or @FILE; JSON unless a header says otherwise
    #[arg(long)]
    body: Option<String>,
    /// SQL, or @FILE, in place of a request: relations are taken as plain tables, functions as those of a stock PostgreSQL
    #[arg(long, conflicts_with = "url")]
    sql: Option<String>,
    /// The database that the SQL runs in
    #[arg(long, default_value = "postgres", requires = "sql")]
    database: String,
    /// Whom Holdpoint would log in as for it
    #[arg(long, default_value = "postgres", requires = "sql")]
    user: String,
    /// Where the database is, if it is Cloud SQL's
    #[arg(long, value_name = "PROJECT:REGION:INSTANCE", requires = "sql")]
    instance: Option<String>,
    /// Who asks
    #[arg(
        long,
        value_name = "ISSUER#SUBJECT",
        default_value = "https://issuer.example.com#agent"
    )]
    principal: String,
    /// A group of who asks; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A claim of who asks; may be given more than once
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// When, for example 2026-05-01T22:00:00Z; now if absent
    #[arg(long)]
    time: Option<Timestamp>,
}

/// One operation, explained.
#[derive(Serialize)]
struct Explained {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    principal: String,
    action: String,
    groups: Vec<&'static str>,
    resource: String,
    /// What it carries out, where that is known.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    contains: BTreeSet<String>,
    /// What was decided when it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Verdict>,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let explained = match (&args.id, &args.case) {
        (Some(id), _) => of_the_record(args, id).await?,
        (None, Some(case)) => of_case(args, case)?,
        (None, None) => of_request(args)?,
    };
    screen::print(&match args.output {
        Output::Json => screen::json(&explained)?,
        Output::Table => explained.iter().map(shown).collect::<Vec<_>>().join("\n"),
    })
}

fn policies(args: &Args) -> anyhow::Result<Policies> {
    if let Some(dir) = &args.policies {
        return load(dir);
    }
    let config = args.connect.config.as_deref();
    let config = Config::load(config.unwrap_or(Path::new(DEFAULT_PATH)))
        .context("which policies? Name their directory with --policies")?;
    load(&config.policies)
}

async fn of_the_record(args: &Args, id: &str) -> anyhow::Result<Vec<Explained>> {
    let policies = policies(args)?;
    let client = args.connect.client()?;
    let operations = if id.starts_with("s-") {
        past::of_session(&client, id).await?
    } else {
        vec![past::find(&client, id).await?]
    };
    anyhow::ensure!(
        !operations.is_empty(),
        "{id} has asked for nothing that policy decides about"
    );
    let explain = |past: Past| {
        let recorded = past.verdict();
        let asked = past
            .asked
            .map_err(|why| anyhow::anyhow!("{} cannot be judged again: {why}", past.id))?;
        let (principal, operation) = (&asked.principal, &asked.operation);
        let at = Some(past.at);
        let explained = explained(&policies, principal, operation, at, &asked.gaps)?;
        Ok(Explained {
            operation: Some(past.id.to_string()),
            recorded: Some(recorded),
            ..explained
        })
    };
    operations.into_iter().map(explain).collect()
}

fn of_case(args: &Args, case: &str) -> anyhow::Result<Vec<Explained>> {
    let (file, name) = case
        .split_once(".test.toml:")
        .context("--case is FILE.test.toml:NAME, or a line instead of the name")?;
    let file = PathBuf::from(format!("{file}.test.toml"));
    let dir = match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut sources = read_files(dir, ".test.toml")?;
    sources.retain(|source| Some(source.file.as_ref()) == file.file_name());
    let suite = Suite::parse(&sources).map_err(|problems| complain(dir, &problems))?;
    let policies = match &args.policies {
        Some(dir) => load(dir)?,
        None => load_with_bases(dir, &suite)?,
    };
    let trials = Trials::of(&suite, Catalog::built_in(), &operations)
        .map_err(|problems| complain(dir, &problems))?;
    let Some(asked) = trials.find(name) else {
        let names = trials.names().join("\n  ");
        bail!("{} has no case {name:?}, only\n  {names}", file.display());
    };
    all_explained(&policies, &asked.principal, &asked.operations, asked.at)
}

fn of_request(args: &Args) -> anyhow::Result<Vec<Explained>> {
    let policies = policies(args)?;
    let operations = match args.request.raw_sql()? {
        Some(sql) => sql.operations().map(Ok),
        None => operations(&args.request.raw()?),
    };
    let operations = operations.map_err(anyhow::Error::msg)?;
    let at = args.request.time.unwrap_or_else(Timestamp::now);
    all_explained(&policies, &args.request.principal()?, &operations, Some(at))
}

fn all_explained(
    policies: &Policies,
    principal: &Principal,
    operations: &Result<Vec<Operation>, Malformed>,
    at: Option<Timestamp>,
) -> anyhow::Result<Vec<Explained>> {
    match operations {
        Ok(operations) => operations
            .iter()
            .map(|it| explained(policies, principal, it, at, &Gaps::default()))
            .collect(),
        Err(Malformed(why)) => {
            bail!("deny: it is refused before any policy is asked, because {why}")
        }
    }
}

fn explained(
    policies: &Policies,
    principal: &Principal,
    operation: &Operation,
    at: Option<Timestamp>,
    gaps: &Gaps,
) -> anyhow::Result<Explained> {
    let explanation = policies
        .explain(principal, operation, at, gaps)
        .map_err(|error| anyhow::anyhow!("deny: it cannot be put to the policies: {error}"))?;
    Ok(Explained {
        operation: None,
        principal: principal.name(),
        action: operation.action.id().to_owned(),
        groups: operation
            .action
            .groups()
            .iter()
            .map(|it| it.name())
            .collect(),
        resource: operation.resource.name.clone(),
        contains: operation.contains.clone().unwrap_or_default(),
        recorded: None,
        explanation,
    })
}

impl Request {
    fn raw(&self) -> anyhow::Result<RawRequest> {
        let headers = self.headers.iter().map(|header| {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("{header:?} is not NAME: VALUE"))?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        });
        let mut headers: BTreeMap<String, String> = headers.collect::<anyhow::Result<_>>()?;
        let body = self
            .body
            .as_deref()
            .map_or(Ok(String::new()), text_or_file)?;
        if !body.is_empty() && !headers.contains_key("content-type") {
            headers.insert("content-type".into(), "application/json".into());
        }
        Ok(RawRequest {
            method: self.method.clone(),
            url: self.url.clone().context("--url is missing")?,
            headers,
            body,
            json: None,
            form: None,
        })
    }

    fn raw_sql(&self) -> anyhow::Result<Option<RawSql>> {
        let Some(sql) = &self.sql else {
            return Ok(None);
        };
        Ok(Some(RawSql {
            text: text_or_file(sql)?,
            instance: self.instance.clone(),
            database: self.database.clone(),
            user: self.user.clone(),
        }))
    }

    fn principal(&self) -> anyhow::Result<Principal> {
        let (issuer, subject) = self
            .principal
            .split_once('#')
            .context("--principal is ISSUER#SUBJECT")?;
        let claims = self.claims.iter().map(|claim| {
            let (name, value) = claim
                .split_once('=')
                .with_context(|| format!("{claim:?} is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        });
        Ok(Principal {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            groups: self.groups.iter().cloned().collect(),
            claims: claims.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// What is said itself, or, after an `@`, what is in the file.
fn text_or_file(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file}")),
        None => Ok(text.to_owned()),
    }
}

fn shown(explained: &Explained) -> String {
    let Explained { explanation, .. } = explained;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    if let Some(operation) = &explained.operation {
        field("operation", operation);
    }
    field("principal", &explained.principal);
    let groups = explained.groups.join(", ");
    let action = match groups.as_str() {
        "" => explained.action.clone(),
        groups => format!("{} ({groups})", explained.action),
    };
    field("action", &action);
    field("resource", &explained.resource);
    if !explained.contains.is_empty() {
        let contains: Vec<_> = explained.contains.iter().map(String::as_str).collect();
        field("contains", &contains.join(", "));
    }
    field(
        "decision",
        &decision(&explanation.verdicts, explained.recorded),
    );
    let steps = [
        (
            "First, what denies and what permits:",
            [Effect::Forbid, Effect::Permit].as_slice(),
        ),
        ("Then, what holds:", &[Effect::Hold]),
    ];
    for (step, effects) in steps {
        let _ = writeln!(text, "\n{step}");
        let mut findings: Vec<_> = effects
            .iter()
            .flat_map(|effect| {
                explanation
                    .findings
                    .iter()
                    .filter(move |it| it.effect == *effect)
            })
            .collect();
        findings.sort_by_key(|it| it.matches != Match::Yes);
        if findings.is_empty() {
            let _ = writeln!(text, "  no policy is about this principal and this action");
        }
        for finding in findings {
            text.push_str(&policy(finding));
        }
    }
    if !explanation.advice.is_empty() {
        let _ = writeln!(text, "\nTo get another decision:");
    }
    for advice in &explanation.advice {
        let _ = writeln!(text, "  - {}", safe(advice));
    }
    text
}

fn decision(verdicts: &BTreeSet<Verdict>, recorded: Option<Verdict>) -> String {
    let all: Vec<_> = verdicts.iter().map(ToString::to_string).collect();
    let now = match all.as_slice() {
        [one] => one.clone(),
        several => format!(
            "unknown: {}; not enough was recorded to tell",
            several.join(" or ")
        ),
    };
    match recorded {
        Some(recorded) if verdicts.len() > 1 || !verdicts.contains(&recorded) => {
            format!("{now} (when it happened: {recorded})")
        }
        _ => now,
    }
}

fn policy(finding: &Finding) -> String {
    let mark = match &finding.matches {
        Match::Yes => "matches",
        Match::No => "does not match",
        Match::Failed(_) => "FAILS, which denies",
        Match::Unknown(_) => "may match",
    };
    let mut text = format!(
        "  {:<6} {}: {mark}\n",
        finding.effect,
        safe(&finding.policy.to_string())
    );
    let mut line = |what: &str| {
        let _ = writeln!(text, "           {}", safe(what));
    };
    if finding.matches == Match::Yes {
        if let Some(group) = &finding.group {
            line(&format!("asks {group}"));
        }
        if let Some(reason) = &finding.reason {
            line(&format!("because {reason}"));
        }
    } else {
        line(&finding.obstacles());
    }
    for condition in &finding.conditions {
        if condition.is_met == Match::Yes {
            line(&format!("`{}` is met", condition.text));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn explain(more: &[&str]) -> anyhow::Result<Vec<Explained>> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let shipped = shipped.to_string_lossy().into_owned();
        let line = ["explain", "--policies", &shipped].into_iter();
        let args = Line::parse_from(line.chain(more.iter().copied())).args;
        match &args.case {
            Some(case) => of_case(&args, case),
            None => of_request(&args),
        }
    }

    #[test]
    fn a_request_is_explained_in_two_steps_with_file_and_line() {
        let url = "https://sqladmin.googleapis.com/v1/projects/shop/instances/db";
        let explained = explain(&["--method", "DELETE", "--url", url]).expect("it is explained");
        let text = shown(&explained[0]);
        for part in [
            "decision   hold",
            "sql.instances.delete (delete)",
            "permit deletes (20-writes.cedar:",
            "hold   hold-deletes (30-holds.cedar:",
            "asks reviewers",
            "except it from hold-deletes",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let json = screen::json(&explained).expect("JSON");
        assert!(
            json.contains("\"verdicts\"") && json.contains("\"hold\""),
            "{json}"
        );
    }

    #[test]
    fn a_body_comes_from_a_file_and_a_malformed_request_is_said_to_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("body.json");
        std::fs::write(&file, r#"{"name":"f","sourceRanges":["0.0.0.0/0"]}"#).expect("a file");
        let url = "https://compute.googleapis.com/compute/v1/projects/shop/global/firewalls";
        let body = format!("@{}", file.display());
        let open =
            explain(&["--method", "POST", "--url", url, "--body", &body]).expect("explained");
        assert_eq!(open[0].explanation.verdicts, [Verdict::Deny].into());
        let twice = "https://compute.googleapis.com/compute/v1/projects/a%2fb/../global/firewalls";
        let error = explain(&["--method", "POST", "--url", twice])
            .err()
            .expect("refused");
        assert!(error.to_string().starts_with("deny: "), "{error}");
    }

    #[test]
    fn a_case_is_found_by_its_name_or_line() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/holds.test.toml");
        let of = |name: &str| explain(&["--case", &format!("{}:{name}", cases.display())]);
        let by_name = of("deleting a SQL instance").expect("it is there");
        let by_line = of("1").expect("it is there");
        assert_eq!(by_name[0].action, "sql.instances.delete");
        assert_eq!(by_line[0].action, by_name[0].action);
        let error = of("no such case").err().expect("it is not there");
        assert!(
            error.to_string().contains("1: deleting a SQL instance"),
            "{error}"
        );
    }
}
