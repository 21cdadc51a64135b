//! The tree of names under `/computeMetadata/v1/`.

use serde_json::{Map, Value, json};

use super::MetadataView;

/// A name's value, or the names below it.
pub(super) enum Node {
    Directory(Vec<(String, Node)>),
    Text(String),
    Number(u64),
    /// One to a line as text, an array in JSON.
    Lines(Vec<String>),
    Token(String),
    Identity,
}

/// Everything that `view` tells.
pub(super) fn root(view: &MetadataView) -> Node {
    directory([
        ("instance", Some(instance(view))),
        ("project", Some(project(view))),
        (
            "universe",
            Some(directory([(
                "universe-domain",
                Some(text(&view.universe_domain)),
            )])),
        ),
    ])
}

fn instance(view: &MetadataView) -> Node {
    // On a VM the project's number stands here; clients look at the last part.
    let project = match view.numeric_project {
        Some(number) => number.to_string(),
        None => view.project.clone(),
    };
    let name = &view.instance_name;
    let hostname = match &view.zone {
        Some(zone) => format!("{name}.{zone}.c.{}.internal", view.project),
        None => format!("{name}.c.{}.internal", view.project),
    };
    let zone = view
        .zone
        .as_ref()
        .map(|zone| format!("projects/{project}/zones/{zone}"));
    let machine_type = format!("projects/{project}/machineTypes/holdpoint-session");
    directory([
        ("attributes", Some(directory([]))),
        ("hostname", Some(text(&hostname))),
        ("id", Some(Node::Number(view.instance_id))),
        ("machine-type", Some(text(&machine_type))),
        ("name", Some(text(name))),
        ("service-accounts", Some(service_accounts(view))),
        ("zone", zone.map(Node::Text)),
    ])
}

fn project(view: &MetadataView) -> Node {
    // gcloud asks for this to find out whether there is a metadata server, and wants digits. No project has the number 0.
    let number = view.numeric_project.unwrap_or(0);
    directory([
        ("attributes", Some(directory([]))),
        ("numeric-project-id", Some(Node::Number(number))),
        ("project-id", Some(text(&view.project))),
    ])
}

/// The one service account, under its e-mail and as `default`.
fn service_accounts(view: &MetadataView) -> Node {
    let account = || {
        Some(directory([
            ("aliases", Some(Node::Lines(vec!["default".to_owned()]))),
            ("email", Some(text(&view.account))),
            ("identity", Some(Node::Identity)),
            ("scopes", Some(Node::Lines(view.scopes.clone()))),
            ("token", Some(Node::Token(view.placeholder.clone()))),
        ]))
    };
    directory([("default", account()), (view.account.as_str(), account())])
}

fn directory<'a>(entries: impl IntoIterator<Item = (&'a str, Option<Node>)>) -> Node {
    let known = entries
        .into_iter()
        .filter_map(|(name, node)| Some((name.to_owned(), node?)));
    Node::Directory(known.collect())
}

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

impl Node {
    /// What stands under this path.
    pub(super) fn find(&self, path: &[String]) -> Option<&Self> {
        let Some((name, below)) = path.split_first() else {
            return Some(self);
        };
        let Self::Directory(entries) = self else {
            return None;
        };
        // Clients have asked for this one in three spellings.
        let name = match name.as_str() {
            "universe_domain" | "universeDomain" => "universe-domain",
            name => name,
        };
        let (_, node) = entries.iter().find(|(entry, _)| entry == name)?;
        node.find(below)
    }

    /// As text: a value, or the names in a directory.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Directory(entries) => entries
                .iter()
                .map(|(name, node)| match node {
                    Self::Directory(_) => format!("{name}/\n"),
                    _ => format!("{name}\n"),
                })
                .collect(),
            Self::Text(text) | Self::Token(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Lines(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Self::Identity => String::new(),
        }
    }

    /// As JSON, with all that is below it. Tokens are told only to those who ask for them by name.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Directory(entries) => entries
                .iter()
                .filter(|(_, node)| !matches!(node, Self::Token(_) | Self::Identity))
                .map(|(name, node)| (json_name(name), node.json()))
                .collect::<Map<_, _>>()
                .into(),
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Lines(lines) => json!(lines),
            Self::Token(_) | Self::Identity => Value::Null,
        }
    }
}

/// `machine-type` is `machineType` in JSON; an e-mail stays as it is.
fn json_name(name: &str) -> String {
    if name.contains('@') {
        return name.to_owned();
    }
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        let mut letters = part.chars();
        let initial = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &initial.into_iter().chain(letters).collect::<String>()
    })
}
