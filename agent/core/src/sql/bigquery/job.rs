//! From a request that starts a job to what its SQL does
//! (<https://cloud.google.com/bigquery/docs/reference/rest/v2/Job>, `JobConfigurationQuery`).

use std::collections::BTreeSet;

use super::{Effect, actions, effects};
use crate::{
    digest::Digest,
    fields::{Fields, Json},
    operation::{Action, Content, Operation, Resource, Trait},
    target::Target,
};

/// What the SQL in a request to BigQuery does, each effect as an operation of its own; none, where there is no SQL in it.
#[must_use]
pub fn of_request(request: &Operation) -> Vec<Operation> {
    let configuration = match (request.action.id(), request.json.as_deref()) {
        ("bigquery.jobs.insert" | "bigquery.jobs.query", None) => {
            return match &request.content {
                // What comes with media is loaded.
                Content::Media { metadata, .. } if !speaks_of_queries(metadata) => Vec::new(),
                Content::Empty => Vec::new(),
                _ => opaque(
                    request,
                    "there may be SQL in it that Holdpoint cannot read: send it as JSON, and not as an upload",
                ),
            };
        }
        ("bigquery.jobs.insert", Some(job)) => match job.field("configuration") {
            None => return Vec::new(),
            Some(configuration) => match configuration.field("query") {
                None => return Vec::new(),
                Some(query) => (query, configuration),
            },
        },
        ("bigquery.jobs.query", Some(query)) => (query, query),
        (
            "bigquery.tables.insert" | "bigquery.tables.patch" | "bigquery.tables.update",
            Some(table),
        ) => return of_view(request, table),
        _ => return Vec::new(),
    };
    let (query, around) = configuration;
    Job::of(request, query, around).operations(request)
}

/// What a view shows is judged where it is said: whoever selects from it later is taken to read, no more.
fn of_view(request: &Operation, table: &Json) -> Vec<Operation> {
    let views = ["view", "materializedView"].map(|kind| table.field(kind));
    let views = views.into_iter().flatten().filter(|it| **it != Json::Null);
    let jobs = views.map(|view| {
        let mut job = Job::of(request, view, view);
        job.effects.push(Effect::new("create_view", Vec::new()));
        job
    });
    jobs.flat_map(|job| job.operations(request)).collect()
}

/// What a query may be told besides its text without meaning something else (`JobConfigurationQuery` and `QueryRequest`; of a view `ViewDefinition`
/// and `MaterializedViewDefinition`).
const UNDERSTOOD: [&str; 44] = [
    "allowLargeResults",
    "allowNonIncrementalDefinition",
    "clustering",
    "connectionProperties",
    "createDisposition",
    "createSession",
    "defaultDataset",
    "destinationEncryptionConfiguration",
    "destinationTable",
    "dryRun",
    "enableRefresh",
    "flattenResults",
    "formatOptions",
    "jobCreationMode",
    "jobTimeoutMs",
    "kind",
    "labels",
    "lastRefreshTime",
    "location",
    "maxResults",
    "maxSlots",
    "maxStaleness",
    "maximumBillingTier",
    "maximumBytesBilled",
    "parameterMode",
    "preserveNulls",
    "priority",
    "privacyPolicy",
    "query",
    "queryParameters",
    "rangePartitioning",
    "refreshIntervalMs",
    "requestId",
    "reservation",
    "schemaUpdateOptions",
    "scriptOptions",
    "timePartitioning",
    "timeoutMs",
    "useExplicitColumnNames",
    "useLegacySql",
    "useQueryCache",
    "userDefinedFunctionResources",
    "writeDisposition",
    "writeIncrementalResults",
];

/// Properties of the connection that do not change what names mean, or who runs it.
const PROPERTIES: [&str; 2] = ["query_label", "time_zone"];

/// Why a query may do something else than its text says.
fn told_besides(query: &Json) -> Option<String> {
    if let Some(other) = query.other_field(&UNDERSTOOD) {
        return Some(match other {
            "tableDefinitions" | "table_definitions" => {
                "it says itself what is behind its tables (tableDefinitions)".to_owned()
            }
            "continuous" => "it goes on for ever (continuous)".to_owned(),
            other => format!("Holdpoint does not know what \"{other}\" in it does"),
        });
    }
    let properties = query
        .field("connectionProperties")
        .map_or(&[][..], Json::items);
    let keys = properties
        .iter()
        .map(|it| it.field("key").and_then(Json::text));
    let mut others = keys.filter(|key| !key.is_some_and(|key| PROPERTIES.contains(&key)));
    others.next().map(|key| {
        format!(
            "what its names mean, or who runs it, depends on the connection property \"{}\"",
            key.unwrap_or_default()
        )
    })
}

fn speaks_of_queries(metadata: &Fields) -> bool {
    metadata
        .0
        .keys()
        .any(|path| path.starts_with("configuration.query"))
}

fn opaque(request: &Operation, why: &str) -> Vec<Operation> {
    let job = Job {
        text: String::new(),
        default: None,
        project: request.resource.project.clone().unwrap_or_default(),
        effects: vec![Effect::opaque("unparsed", why)],
        functions: Vec::new(),
    };
    job.operations(request)
}

/// A job that runs SQL.
struct Job {
    text: String,
    /// The data set of tables without one: project and name.
    default: Option<(String, String)>,
    project: String,
    effects: Vec<Effect>,
    functions: Vec<String>,
}

impl Job {
    fn of(request: &Operation, query: &Json, around: &Json) -> Self {
        let text = query
            .field("query")
            .and_then(Json::text)
            .unwrap_or_default()
            .to_owned();
        let project = request.resource.project.clone().unwrap_or_default();
        let default = query.field("defaultDataset").and_then(|set| {
            let in_project = set
                .field("projectId")
                .and_then(Json::text)
                .unwrap_or(&project);
            Some((
                in_project.to_owned(),
                set.field("datasetId")?.text()?.to_owned(),
            ))
        });
        let (mut effects, functions) = match is_legacy(query, &text) {
            true => (
                vec![Effect::opaque(
                    "legacy",
                    "it is in legacy SQL, which Holdpoint does not read: set useLegacySql to false",
                )],
                Vec::new(),
            ),
            false => effects(&text),
        };
        if let Some(why) = told_besides(query) {
            for effect in &mut effects {
                effect.opaque.get_or_insert_with(|| why.clone());
            }
        }
        if query.field("userDefinedFunctionResources").is_some() {
            effects.push(Effect::opaque("create_function", "it brings code along"));
        }
        if let Some(destination) = query
            .field("destinationTable")
            .filter(|it| **it != Json::Null)
        {
            effects.extend(writes_to(query, destination, &project));
        }
        let dry = around.field("dryRun").and_then(Json::text) == Some("true");
        if dry {
            for effect in &mut effects {
                *effect = Effect::new("dry_run", std::mem::take(&mut effect.relation));
            }
            effects.sort_unstable();
            effects.dedup();
        }
        Self {
            text,
            default,
            project,
            effects,
            functions,
        }
    }

    fn operations(self, request: &Operation) -> Vec<Operation> {
        let of_job = |effect: &Effect| self.operation(request, effect);
        self.effects.iter().map(of_job).collect()
    }

    fn operation(&self, request: &Operation, effect: &Effect) -> Operation {
        let id = format!("{}{}", actions::PREFIX, effect.verb);
        let groups = actions::groups(&id).unwrap_or_default();
        let (name, project) = self.resource(effect);
        let mut fields = Fields::default();
        let mut tell = |field: &str, value: &str| {
            fields
                .0
                .entry(field.to_owned())
                .or_default()
                .insert(value.to_owned());
        };
        tell("statement", &self.text);
        if !effect.relation.is_empty() {
            tell("relation", &effect.relation.join("."));
        }
        if let Some(why) = &effect.opaque {
            tell("opaque", why);
        }
        self.functions
            .iter()
            .for_each(|function| tell("function", function));
        let mut traits = BTreeSet::new();
        if effect.opaque.is_some() {
            traits.insert(Trait::Opaque);
        }
        if effect.without_where {
            traits.insert(Trait::WithoutWhere);
        }
        Operation {
            digest: Digest::of(&[
                b"bigquery",
                request.digest.as_bytes(),
                id.as_bytes(),
                name.as_bytes(),
            ]),
            action: Action::new(id, groups),
            resource: Resource {
                name,
                project: Some(project),
                location: None,
            },
            method: String::new(),
            host: request.host.clone(),
            port: None,
            path: request.path.clone(),
            query: Vec::new(),
            content: Content::Fields(fields),
            json: None,
            target: Target::NotLookedUp,
            traits,
            size: request.size,
            answers_media: false,
            contains: request.contains.clone(),
        }
    }

    /// The full name of what an effect is on, and its project. A project may have dots in it, a data set and a table have none.
    fn resource(&self, effect: &Effect) -> (String, String) {
        let named = |project: &str, set: &str, thing: Option<&str>| {
            let thing = thing
                .map(|name| format!("/{}/{name}", kind(effect.verb)))
                .unwrap_or_default();
            (
                format!("//bigquery.googleapis.com/projects/{project}/datasets/{set}{thing}"),
                project.to_owned(),
            )
        };
        let parts = &effect.relation;
        let schema = parts
            .iter()
            .position(|part| part.eq_ignore_ascii_case("information_schema"));
        let (before, last) = match (schema, parts.split_last()) {
            (Some(at), _) => (&parts[..at], parts[at..].join(".")),
            (None, Some((last, before))) => (before, last.clone()),
            (None, None) => {
                let project = &self.project;
                return (
                    format!("//bigquery.googleapis.com/projects/{project}"),
                    project.clone(),
                );
            }
        };
        let is_set = effect.verb.ends_with("_schema");
        match (before, &self.default) {
            ([], _) if is_set => named(&self.project, &last, None),
            (project, _) if is_set => named(&project.join("."), &last, None),
            ([], Some((project, set))) => named(project, set, Some(&last)),
            // Of a script's own, or no table at all.
            ([], None) => named(&self.project, "-", Some(&last)),
            ([set], _) => named(&self.project, set, Some(&last)),
            ([project @ .., set], _) => named(&project.join("."), set, Some(&last)),
        }
    }
}

fn kind(verb: &str) -> &'static str {
    match verb {
        "create_function"
        | "create_remote_function"
        | "create_procedure"
        | "drop_function"
        | "drop_procedure" => "routines",
        _ => "tables",
    }
}

/// Without a word about it, a job's SQL is legacy SQL; its first line may say otherwise.
fn is_legacy(query: &Json, text: &str) -> bool {
    let first = text.trim_start().to_ascii_lowercase();
    let says = query.field("useLegacySql").and_then(Json::text);
    match says {
        Some("false") => first.starts_with("#legacysql"),
        None => !first.starts_with("#standardsql"),
        Some(_) => true,
    }
}

/// What becomes of the table that a query's result goes to.
fn writes_to(query: &Json, table: &Json, project: &str) -> Vec<Effect> {
    let part = |name: &str| {
        table
            .field(name)
            .and_then(Json::text)
            .unwrap_or_default()
            .to_owned()
    };
    let in_project = match part("projectId") {
        empty if empty.is_empty() => project.to_owned(),
        named => named,
    };
    let relation = vec![in_project, part("datasetId"), part("tableId")];
    let verbs: &[&'static str] = match query.field("writeDisposition").and_then(Json::text) {
        None | Some("WRITE_EMPTY") => &["create_table"],
        Some("WRITE_APPEND") => &["create_table", "insert"],
        Some(_) => &["create_table", "truncate"],
    };
    verbs
        .iter()
        .map(|verb| Effect::new(verb, relation.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
