//! `cargo xtask catalog`: the table of Google methods, from the discovery documents.
//!
//! The documents come with a Python package. The table keeps of them what routing needs
//! (`agent/core/src/catalog/table.rs` tells its format); the same package always gives the same bytes.

mod documents;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use self::documents::{Document, DocumentEndpoint, DocumentMethod, Parameter};
use anyhow::{Context as _, bail, ensure};
use holdpoint_core::catalog::{Catalog, Requests, normal_host};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/core/catalog.bin.zst");
const REQUESTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent/core/requests.bin.zst"
);

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
        Some(directory) => documents::read(directory)?,
        None => documents::read(&documents::fetch(scratch.path())?)?,
    };
    let text = Table::of(&documents)?.text();
    let compressed = zstd::bulk::compress(text.as_bytes(), 19)?;
    let catalog = Catalog::load(&compressed)?;
    verify(&catalog, &documents)?;
    println!(
        "catalog: {} documents, {} methods",
        documents.len(),
        catalog.methods().len()
    );
    keep(TABLE, args, text.len(), &compressed)?;

    let text = requests::text(&documents);
    let compressed = zstd::bulk::compress(text.as_bytes(), 19)?;
    Requests::load(&compressed)?;
    keep(REQUESTS, args, text.len(), &compressed)
}

fn keep(path: &str, args: &Args, length: usize, compressed: &[u8]) -> anyhow::Result<()> {
    if args.check {
        ensure!(
            fs::read(path)? == compressed,
            "{path} is not what the documents give; run `cargo xtask catalog`"
        );
    } else {
        fs::write(path, compressed)?;
    }
    println!("{path}: {length} bytes, {} compressed", compressed.len());
    Ok(())
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
