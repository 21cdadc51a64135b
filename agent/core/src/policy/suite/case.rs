//! Cases as they are written in `*.test.toml`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use toml::Spanned;

use super::{Asked, Outcome, Recognise, Verdict, found::LookUp};
use crate::{
    fields::Fields,
    groups::{Groups, classify},
    identity::Principal,
    operation::{Action, Content, Operation, Resource, Size, Trait},
    policy::{KnownActions, Problem, Source, vocabulary::OWN_ACTIONS},
    sql,
};

/// The cases of some files.
#[derive(Debug, Default)]
pub struct Suite {
    cases: Vec<Case>,
    bases: BTreeSet<String>,
}

impl Suite {
    /// Reads files of cases.
    ///
    /// # Errors
    /// Every file that is not TOML of the shape that `policies/README.md` describes.
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        let mut suite = Self::default();
        let mut problems = Vec::new();
        for source in sources {
            match toml::from_str::<File>(&source.text) {
                Ok(file) => {
                    suite.bases.extend(file.base);
                    suite
                        .cases
                        .extend(file.cases.into_iter().map(|written| Case {
                            file: source.file.clone(),
                            line: source.line(written.span().start),
                            written: written.into_inner(),
                        }));
                }
                Err(error) => {
                    let at = error.span().map_or(0, |span| span.start);
                    problems.push(source.problem(at, error.message().to_owned()));
                }
            }
        }
        if problems.is_empty() {
            Ok(suite)
        } else {
            Err(problems)
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Files of policies that are in force besides those under test, relative to the cases' directory.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        self.bases.iter().map(String::as_str)
    }

    pub(super) fn cases(&self) -> &[Case] {
        &self.cases
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    base: Vec<String>,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<Written>>,
}

/// One case and where it stands.
#[derive(Debug)]
pub(super) struct Case {
    file: String,
    line: u32,
    written: Written,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    principal: Who,
    request: Option<RawRequest>,
    operation: Option<Direct>,
    /// A text of SQL, in which relations are plain tables.
    sql: Option<String>,
    /// Where `sql` runs.
    #[serde(default = "shop")]
    database: String,
    /// As whom `sql` runs.
    #[serde(default = "shop")]
    user: String,
    target: Option<LookUp>,
    /// RFC 3339, for policies that ask for `context.now`.
    time: Option<String>,
    expect: Verdict,
    policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Who {
    issuer: String,
    subject: String,
    groups: BTreeSet<String>,
    claims: BTreeMap<String, String>,
}

impl Default for Who {
    fn default() -> Self {
        Self {
            issuer: "https://issuer.example.com".into(),
            subject: "agent".into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        }
    }
}

/// A request as it comes from the wire.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRequest {
    /// The verb.
    pub method: String,
    /// `https://`, a host, a path and a query.
    pub url: String,
    /// Header fields by name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, to the letter; none if absent.
    #[serde(default)]
    pub body: String,
    /// The body as a table, sent as JSON; instead of `body`.
    pub json: Option<toml::Table>,
    /// The body as the fields of a form; instead of `body`.
    pub form: Option<BTreeMap<String, String>>,
}

impl RawRequest {
    /// The body and the headers, with the media type of `json` or `form` where no header says another.
    ///
    /// # Errors
    /// When there is more than one body, or no JSON for it.
    pub fn content(&self) -> Result<(Vec<u8>, BTreeMap<String, String>), String> {
        let (body, media_type) = match (&self.json, &self.form) {
            (None, None) => return Ok((self.body.clone().into_bytes(), self.headers.clone())),
            _ if !self.body.is_empty() => return Err("write one of `body`, `json`, `form`".into()),
            (Some(json), None) => {
                let json = serde_json::to_vec(json).map_err(|error| format!("`json`: {error}"))?;
                (json, "application/json")
            }
            (None, Some(form)) => {
                let piece = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
                let pairs = form
                    .iter()
                    .map(|(k, v)| format!("{}={}", piece(k), piece(v)));
                let pairs: Vec<_> = pairs.collect();
                (
                    pairs.join("&").into_bytes(),
                    "application/x-www-form-urlencoded",
                )
            }
            (Some(_), Some(_)) => return Err("write one of `body`, `json`, `form`".into()),
        };
        let mut headers = self.headers.clone();
        let names = ["content-type", "Content-Type"];
        if !names.iter().any(|name| headers.contains_key(*name)) {
            headers.insert(names[0].to_owned(), media_type.to_owned());
        }
        Ok((body, headers))
    }
}

/// An operation as recognition would have found it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Direct {
    action: String,
    #[serde(default)]
    resource: String,
    host: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    body: BTreeMap<String, OneOrMore>,
    unreadable: Option<String>,
    #[serde(default)]
    traits: Vec<String>,
    #[serde(default)]
    size: PartialSize,
    #[serde(default)]
    contains: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartialSize {
    vcpus: u32,
    accelerators: u32,
    instances: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(BTreeSet<String>),
}

impl Case {
    pub(super) fn problem(&self, message: &str) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            message: format!("case {:?}: {message}", self.written.name),
        }
    }

    /// Whether this is its name, or the line it stands on.
    pub(super) fn is_called(&self, name_or_line: &str) -> bool {
        self.written.name == name_or_line || self.line.to_string() == name_or_line
    }

    pub(super) fn label(&self) -> String {
        format!("{}: {}", self.line, self.written.name)
    }

    pub(super) fn expected(&self) -> Verdict {
        self.written.expect
    }

    pub(super) fn expected_policy(&self) -> Option<&str> {
        self.written.policy.as_deref()
    }

    pub(super) fn is_met_by(&self, outcome: &Outcome) -> bool {
        let named = self.written.policy.as_ref();
        outcome.verdict == self.written.expect
            && named.is_none_or(|id| outcome.policies.iter().any(|policy| policy.id == *id))
    }

    pub(super) fn disappointment(&self, outcome: &Outcome) -> String {
        let expected_by = self.written.policy.as_ref().map(|id| format!(" by {id}"));
        let by: Vec<_> = outcome.policies.iter().map(ToString::to_string).collect();
        let by = if by.is_empty() {
            "no policy".into()
        } else {
            by.join(", ")
        };
        format!(
            "expected {}{}, got {} by {by}",
            self.written.expect,
            expected_by.unwrap_or_default(),
            outcome.verdict
        )
    }

    /// What the case asks; the error says what is wrong with the case.
    pub(super) fn asked(
        &self,
        known: &dyn KnownActions,
        recognise: Recognise<'_>,
    ) -> Result<Asked, String> {
        let who = self.written.principal.clone();
        let written = &self.written;
        let operations = match (&written.request, &written.operation, &written.sql) {
            (Some(request), None, None) => recognise(request)?,
            (None, Some(direct), None) => Ok(vec![direct.operation(known)?]),
            (None, None, Some(text)) => Ok(RawSql {
                text: text.clone(),
                instance: Some("shop:europe-west1:db".to_owned()),
                database: written.database.clone(),
                user: written.user.clone(),
            }
            .operations()?),
            _ => return Err("write one of `request`, `operation`, `sql`".into()),
        };
        let operations = match &self.written.target {
            Some(found) => found.look_up_all(operations)?,
            None => operations,
        };
        let at = self.written.time.as_deref().map(|time| {
            let time: Result<Timestamp, _> = time.parse();
            time.map_err(|error| format!("`time`: {error}"))
        });
        Ok(Asked {
            at: at.transpose()?,
            principal: Principal {
                issuer: who.issuer,
                subject: who.subject,
                groups: who.groups,
                claims: who.claims,
            },
            operations,
        })
    }
}

fn shop() -> String {
    "shop".into()
}

/// SQL as somebody writes it down, without a server: relations are plain tables, functions those of a stock PostgreSQL.
#[derive(Clone, Debug)]
pub struct RawSql {
    /// The statements.
    pub text: String,
    /// The instance connection name, where it runs on Cloud SQL.
    pub instance: Option<String>,
    /// The database it runs in.
    pub database: String,
    /// As whom it runs.
    pub user: String,
}

impl RawSql {
    /// What the statements do, all of which is admitted or nothing.
    ///
    /// # Errors
    /// When there is no statement.
    pub fn operations(&self) -> Result<Vec<Operation>, String> {
        let host = self.instance.as_deref().unwrap_or("sample");
        let at = sql::Database {
            entry: "shop".into(),
            instance: self.instance.clone(),
            host: host.to_owned(),
            port: 5432,
            database: self.database.clone(),
            user: self.user.clone(),
        };
        let mut operations = Vec::new();
        for statement in &sql::parse(&self.text).statements {
            let resolved = sql::offline(statement);
            operations.extend(sql::operations(
                &at,
                &self.text,
                statement,
                &resolved,
                &[],
                false,
            ));
        }
        for operation in &mut operations {
            operation.contains = Some(BTreeSet::new());
        }
        match operations.is_empty() {
            true => Err("`sql` has no statement".into()),
            false => Ok(operations),
        }
    }
}

impl Direct {
    fn operation(&self, known: &dyn KnownActions) -> Result<Operation, String> {
        let host = self
            .host
            .as_deref()
            .or_else(|| self.resource.strip_prefix("//")?.split('/').next())
            .ok_or("`operation` needs a `host`, or a `resource` that begins with //HOST/")?;
        let mut operation = Operation::on_host(Action::UNKNOWN, host, self.port);
        (operation.action, operation.method) = self.action(known)?;
        if !self.resource.is_empty() {
            operation.resource = resource(&self.resource);
        }
        let query = self.query.iter();
        operation.query = query.map(|(k, v)| (k.clone(), v.clone())).collect();
        operation.path.clone_from(&self.path);
        operation.size = Size {
            vcpus: self.size.vcpus,
            accelerators: self.size.accelerators,
            instances: self.size.instances,
        };
        operation.content = self.content()?;
        operation.traits.extend(self.traits()?);
        operation.contains = Some(self.contains.clone());
        Ok(operation)
    }

    fn action(&self, known: &dyn KnownActions) -> Result<(Action, String), String> {
        let id = self.action.as_str();
        if OWN_ACTIONS.contains(&id) {
            return Ok((Action::new(id, Groups::default()), String::new()));
        }
        if let Some(groups) = sql::ACTIONS.get(id) {
            return Ok((Action::new(id, *groups), String::new()));
        }
        let verb = known.verb(id).ok_or_else(|| {
            let nearest = known
                .nearest(id)
                .map(|id| format!("; did you mean {id:?}?"));
            format!("there is no action {id:?}{}", nearest.unwrap_or_default())
        })?;
        Ok((Action::new(id, classify(id, verb)), verb.to_owned()))
    }

    fn content(&self) -> Result<Content, String> {
        match &self.unreadable {
            Some(why) if self.body.is_empty() => Ok(Content::Unreadable(why.clone())),
            Some(_) => Err("a body is either `unreadable` or has fields in `body`".into()),
            None if self.body.is_empty() => Ok(Content::Empty),
            None => Ok(Content::Fields(Fields(
                self.body
                    .iter()
                    .map(|(path, values)| (path.clone(), values.clone().into_set()))
                    .collect(),
            ))),
        }
    }

    fn traits(&self) -> Result<BTreeSet<Trait>, String> {
        let find =
            |name: &String| Trait::named(name).ok_or_else(|| format!("there is no trait {name:?}"));
        self.traits.iter().map(find).collect()
    }
}

impl OneOrMore {
    fn into_set(self) -> BTreeSet<String> {
        match self {
            Self::One(value) => [value].into(),
            Self::More(values) => values,
        }
    }
}

/// The project and the location are what follows their words in the name.
fn resource(name: &str) -> Resource {
    let after = |words: &[&str]| {
        let mut parts = name.split('/');
        parts.find(|part| words.contains(part))?;
        parts.next().map(str::to_owned)
    };
    Resource {
        name: name.to_owned(),
        project: after(&["projects"]),
        location: after(&["locations", "regions", "zones"]),
    }
}
