//! `cargo xtask catalog`: the table of Google methods, from the discovery documents.
//!
//! The documents come with a Python package. The table keeps of them what routing needs
//! (`agent/core/src/catalog/table.rs` tells its format); the same package always gives the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use holdpoint_core::catalog::{Catalog, normal_host};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const PACKAGE: &str = "google-api-python-client==2.202.0";
/// SHA-256 of that package's wheel.
const WHEEL_SHA256: &str = "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b";
const DOCUMENTS: &str = "googleapiclient/discovery_cache/documents";
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/core/catalog.bin.zst");

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// A directory of discovery documents, instead of fetching the package that has them.
    #[arg(long)]
    documents: Option<PathBuf>,
    /// Change nothing; fail if the committed table is not what the documents give.
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let documents = match &args.documents {
        Some(directory) => read_documents(directory)?,
        None => read_documents(&fetch(scratch.path())?)?,
    };
    let text = Table::of(&documents)?.text();
    let compressed = zstd::bulk::compress(text.as_bytes(), 19)?;
    let catalog = Catalog::load(&compressed)?;
    verify(&catalog, &documents)?;
    let sizes = format!(
        "{} documents, {} methods, {} bytes, {} compressed",
        documents.len(),
        catalog.methods().len(),
        text.len(),
        compressed.len()
    );
    if args.check {
        ensure!(
            fs::read(TABLE)? == compressed,
            "{TABLE} is not what the documents give; run `cargo xtask catalog`"
        );
    } else {
        fs::write(TABLE, &compressed)?;
    }
    println!("catalog: {sizes}");
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    root_url: String,
    mtls_root_url: Option<String>,
    service_path: String,
    #[serde(default)]
    endpoints: Vec<DocumentEndpoint>,
    #[serde(flatten)]
    top: Resource,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentEndpoint {
    endpoint_url: String,
    location: Option<String>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    methods: BTreeMap<String, DocumentMethod>,
    #[serde(default)]
    resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentMethod {
    id: String,
    http_method: String,
    path: String,
    flat_path: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    media_upload: Option<serde_json::Value>,
    #[serde(default)]
    supports_media_download: bool,
}

#[derive(Deserialize)]
struct Parameter {
    location: String,
    pattern: Option<String>,
    #[serde(default)]
    repeated: bool,
}

fn fetch(scratch: &Path) -> anyhow::Result<PathBuf> {
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

fn read_documents(directory: &Path) -> anyhow::Result<Vec<Document>> {
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

/// What goes on one line, beside its key: host, template, verb.
#[derive(Default)]
struct Line {
    id: String,
    parameters: BTreeSet<String>,
    repeated: BTreeSet<String>,
    uploads: bool,
    downloads: bool,
}

#[derive(Default)]
struct Table {
    locations: BTreeSet<String>,
    aliases: BTreeMap<String, String>,
    hosts: BTreeMap<String, BTreeMap<(String, String), Line>>,
}

impl Table {
    fn of(documents: &[Document]) -> anyhow::Result<Self> {
        let mut table = Self::default();
        for document in documents {
            let host = host_of(&document.root_url)?;
            for endpoint in &document.endpoints {
                table.add_endpoint(&host, endpoint)?;
            }
            for method in document.top.all() {
                table.add_method(&host, &document.service_path, method)?;
            }
        }
        Ok(table)
    }

    fn add_endpoint(&mut self, host: &str, endpoint: &DocumentEndpoint) -> anyhow::Result<()> {
        let Some(location) = &endpoint.location else {
            return Ok(());
        };
        let url = host_of(&endpoint.endpoint_url)?;
        self.locations.insert(location.clone());
        let name = url
            .strip_suffix(&format!(".{location}.rep.googleapis.com"))
            .or_else(|| {
                url.strip_suffix(".googleapis.com")?
                    .strip_prefix(&format!("{location}-"))
            })
            .with_context(|| format!("{url} is a form of host that Holdpoint does not know"))?;
        if format!("{name}.googleapis.com") != host {
            self.aliases.insert(name.to_owned(), host.to_owned());
        }
        Ok(())
    }

    fn add_method(
        &mut self,
        host: &str,
        base: &str,
        method: &DocumentMethod,
    ) -> anyhow::Result<()> {
        let template = method.template(base)?;
        let key = (template.clone(), method.http_method.clone());
        let lines = self.hosts.entry(host.to_owned()).or_default();
        let line = lines.entry(key).or_insert_with(|| Line {
            id: method.id.clone(),
            ..Line::default()
        });
        ensure!(
            line.id == method.id,
            "{} and {} are both {template}",
            line.id,
            method.id
        );
        let named = |wanted: fn(&Parameter) -> bool| {
            let found = method
                .parameters
                .iter()
                .filter(move |(_, parameter)| wanted(parameter));
            found.map(|(name, _)| name.clone())
        };
        let in_path: BTreeSet<_> = named(|parameter| parameter.location == "path").collect();
        if in_path != variables(&template) {
            line.parameters.extend(in_path);
        }
        line.repeated.extend(named(|parameter| {
            parameter.repeated && parameter.location == "query"
        }));
        line.uploads |= method.media_upload.is_some();
        line.downloads |= method.supports_media_download;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::from("#holdpoint-catalog 1\n");
        for location in &self.locations {
            text += &format!("@{location}\n");
        }
        for (name, host) in &self.aliases {
            text += &format!("~{name}\t{host}\n");
        }
        let joined = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(",");
        for (host, lines) in &self.hosts {
            text += &format!("={host}\n");
            for ((template, verb), line) in lines {
                let (parameters, repeated) = (joined(&line.parameters), joined(&line.repeated));
                let uploads = if line.uploads { "u" } else { "" };
                let downloads = if line.downloads { "d" } else { "" };
                let id = &line.id;
                text += &format!(
                    "{id}\t{verb}\t{template}\t{parameters}\t{repeated}\t{uploads}{downloads}\n"
                );
            }
        }
        text
    }
}

impl Resource {
    fn all(&self) -> Vec<&DocumentMethod> {
        let below = self.resources.values().flat_map(Self::all);
        self.methods.values().chain(below).collect()
    }
}

impl DocumentMethod {
    /// The path with every variable as `{x}`, or `{x=**}` where its pattern lets it span segments.
    fn template(&self, base: &str) -> anyhow::Result<String> {
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

fn variables(template: &str) -> BTreeSet<String> {
    let inside = template
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.split('}').next());
    inside
        .map(|name| name.trim_end_matches("=**").to_owned())
        .collect()
}

fn host_of(url: &str) -> anyhow::Result<String> {
    url.strip_prefix("https://")
        .map(|rest| rest.trim_end_matches('/'))
        .and_then(normal_host)
        .with_context(|| format!("{url} is not the root of a host"))
}

/// Every method of every document is found again, and every host a document names leads to its API.
fn verify(catalog: &Catalog, documents: &[Document]) -> anyhow::Result<()> {
    for document in documents {
        let host = host_of(&document.root_url)?;
        let endpoints = document
            .endpoints
            .iter()
            .map(|endpoint| &endpoint.endpoint_url);
        for url in endpoints.chain(&document.mtls_root_url) {
            let endpoint = catalog.endpoint(&host_of(url)?);
            ensure!(
                endpoint.is_some_and(|endpoint| endpoint.service.host == host),
                "{url} does not lead to {host}"
            );
        }
        for method in document.top.all() {
            let path = format!(
                "{}{}",
                document.service_path,
                method.flat_path.as_ref().unwrap_or(&method.path)
            );
            let segments: Vec<_> = path
                .split('/')
                .map(|segment| segment.replace(['{', '}'], ""))
                .collect();
            let segments: Vec<_> = segments.iter().map(String::as_str).collect();
            let endpoint = catalog.endpoint(&host).context("the host is known")?;
            let found = catalog.find(endpoint.service, &method.http_method, &segments);
            if found.is_none_or(|found| found.id != method.id) {
                bail!(
                    "{} at {host}/{path} is taken for {:?}",
                    method.id,
                    found.map(|found| found.id)
                );
            }
        }
    }
    Ok(())
}
