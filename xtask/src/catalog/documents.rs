//! Discovery documents (<https://developers.google.com/discovery/v1/reference/apis>): those parts of them that the
//! table is made of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const PACKAGE: &str = "google-api-python-client==2.202.0";
/// SHA-256 of that package's wheel.
const WHEEL_SHA256: &str = "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b";
const DOCUMENTS: &str = "googleapiclient/discovery_cache/documents";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub root_url: String,
    pub mtls_root_url: Option<String>,
    pub service_path: String,
    #[serde(default)]
    pub endpoints: Vec<DocumentEndpoint>,
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub schemas: BTreeMap<String, Schema>,
    #[serde(flatten)]
    pub top: Resource,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocumentEndpoint {
    pub endpoint_url: String,
    pub location: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Resource {
    #[serde(default)]
    pub methods: BTreeMap<String, DocumentMethod>,
    #[serde(default)]
    pub resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocumentMethod {
    pub id: String,
    pub http_method: String,
    pub path: String,
    pub flat_path: Option<String>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    pub request: Option<Body>,
    pub media_upload: Option<serde_json::Value>,
    #[serde(default)]
    pub supports_media_download: bool,
}

/// A type (<https://developers.google.com/discovery/v1/type-format>).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schema {
    #[serde(rename = "$ref")]
    pub reference: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub items: Option<Box<Schema>>,
    pub additional_properties: Option<Box<Schema>>,
    #[serde(default)]
    pub properties: BTreeMap<String, Schema>,
}

#[derive(Deserialize)]
pub(super) struct Body {
    #[serde(rename = "$ref")]
    pub reference: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Parameter {
    pub location: String,
    pub pattern: Option<String>,
    #[serde(default)]
    pub repeated: bool,
}

pub(super) fn fetch(scratch: &Path) -> anyhow::Result<PathBuf> {
    let pip = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        ".",
        PACKAGE,
    ];
    python(scratch, &pip)?;
    let wheel = fs::read_dir(scratch)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")?;
    let digest = hex::encode(Sha256::digest(fs::read(&wheel)?));
    ensure!(
        digest == WHEEL_SHA256,
        "{PACKAGE} has SHA-256 {digest}, not {WHEEL_SHA256}"
    );
    let wheel = wheel.to_str().context("the wheel's name is not UTF-8")?;
    python(scratch, &["-m", "zipfile", "-e", wheel, "unpacked"])?;
    Ok(scratch.join("unpacked").join(DOCUMENTS))
}

fn python(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("python3")
        .args(arguments)
        .current_dir(directory)
        .status()
        .context("cannot start python3, which fetches and unpacks the discovery documents")?;
    ensure!(status.success(), "python3 {} failed", arguments.join(" "));
    Ok(())
}

pub(super) fn read(directory: &Path) -> anyhow::Result<Vec<Document>> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        // The index names every document and is none itself.
        if path.file_name().is_some_and(|name| name == "index.json") {
            continue;
        }
        let text = fs::read(&path)?;
        let document = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a discovery document", path.display()))?;
        documents.push(document);
    }
    ensure!(
        !documents.is_empty(),
        "no discovery documents in {}",
        directory.display()
    );
    Ok(documents)
}

impl Resource {
    pub fn all(&self) -> Vec<&DocumentMethod> {
        let below = self.resources.values().flat_map(Self::all);
        self.methods.values().chain(below).collect()
    }
}

impl DocumentMethod {
    /// The path with every variable as `{x}`, or `{x=**}` where its pattern lets it span segments.
    pub fn template(&self, base: &str) -> anyhow::Result<String> {
        let Some(flat) = &self.flat_path else {
            ensure!(!self.path.contains("{+"), "{} has no flatPath", self.id);
            return Ok(format!("{base}{}", self.path));
        };
        let mut segments: Vec<_> = flat.split('/').map(str::to_owned).collect();
        let patterns: Vec<_> = self
            .path
            .split('/')
            .map(|segment| self.pattern(segment))
            .collect();
        let span = |pattern: &String| pattern.split('/').count();
        for (place, open) in patterns.iter().enumerate() {
            if !open.contains(".*") {
                continue;
            }
            let end: usize = patterns[..=place].iter().map(span).sum();
            let after: usize = patterns[place + 1..].iter().map(span).sum();
            ensure!(
                open.ends_with(".*") && end + after == segments.len(),
                "{}: {flat} is not {} with {open}",
                self.id,
                self.path
            );
            let last = &mut segments[end - 1];
            ensure!(
                last.starts_with('{'),
                "{}: {flat} has no variable for {open}",
                self.id
            );
            *last = last.replacen('}', "=**}", 1);
        }
        Ok(format!("{base}{}", segments.join("/")))
    }
}

impl DocumentMethod {
    /// What a segment of `path` may be, `*` for one segment of the real path.
    fn pattern(&self, segment: &str) -> String {
        reserved(segment)
            .and_then(|name| self.parameters.get(name)?.pattern.as_deref())
            .map_or("*".into(), |pattern| {
                pattern.trim_matches(['^', '$']).replace("[^/]+", "*")
            })
    }
}

/// The variable of a segment with reserved expansion: `{+name}` or `{+name}:verb`.
fn reserved(segment: &str) -> Option<&str> {
    segment.strip_prefix("{+")?.split('}').next()
}
