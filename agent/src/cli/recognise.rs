//! `holdpoint recognise`: what Holdpoint makes of captured requests, offline.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Write},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use holdpoint_core::{
    catalog::Catalog,
    identity::Principal,
    operation::{Action, Operation},
    policy::{Decision, Policies},
    recognise::{Head, Payload, Recognised, route},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::policy_dir::read_policies;

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 32 << 20;

/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a request for a token or a name of the sandbox's own metadata server is called. Holdpoint answers it itself.
const METADATA: &str = "metadata.get";
const METADATA_HOSTS: [&str; 3] = ["metadata.google.internal", "metadata", "169.254.169.254"];

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Requests, one JSON object a line: scheme, method, host, path, query, headers, body or body_b64, body_len.
    /// `-` reads standard input.
    file: PathBuf,
    /// The lines are SQL, `{"sql": "..."}`, with `database` and `user` where a policy asks for them: say what each statement does.
    /// Relations are taken as plain tables, functions as those of a stock PostgreSQL; whatever else is opaque.
    #[arg(long)]
    sql: bool,
    /// Decide about each request under the policies in this directory.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The issuer of the sample principal.
    #[arg(long, default_value = "https://issuer.example")]
    issuer: String,
    /// The subject of the sample principal.
    #[arg(long, default_value = "sample")]
    subject: String,
    /// A group of the sample principal; may be given more than once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

/// Writes one line of JSON for each line of the file.
///
/// # Errors
/// When the policies or the file cannot be read; at the end, when some line was no request.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let judge = Judge::new(args)?;
    let input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file)
            .with_context(|| format!("cannot open {}", args.file.display()))?;
        Box::new(BufReader::new(file))
    };
    let bad = judge_lines(&judge, input, &mut io::stdout().lock())?;
    if bad > 0 {
        let what = match args.sql {
            true => "are not {\"sql\": \"...\"}",
            false => "are no requests",
        };
        bail!("{bad} lines {what}; their output lines have `error`");
    }
    Ok(())
}

/// Returns how many lines were none of what they should be. Each line has its answer before the next is read.
fn judge_lines(
    judge: &Judge,
    mut input: impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<usize> {
    let mut bad = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(bad);
        }
        let is_cut = read as u64 == MAX_LINE && !line.ends_with(b"\n");
        if is_cut {
            input.skip_until(b'\n')?;
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let written = match judge.sql {
            _ if is_cut => {
                let told = format!("it is longer than {MAX_LINE} bytes");
                write_verdict(&Err::<(), _>(told), output)?
            }
            true => write_verdict(&judge.statements(line), output)?,
            false => write_verdict(&judge.line(line), output)?,
        };
        bad += usize::from(!written);
        output.write_all(b"\n")?;
    }
}

/// Whether it is one.
fn write_verdict(
    verdict: &Result<impl Serialize, String>,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    match verdict {
        Ok(verdict) => serde_json::to_writer(output, verdict)?,
        Err(error) => serde_json::to_writer(output, &BadLine { error })?,
    }
    Ok(verdict.is_ok())
}

#[derive(Serialize)]
struct BadLine<'a> {
    error: &'a str,
}

/// One line of the input.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    scheme: String,
    method: String,
    host: String,
    path: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    body_b64: Option<String>,
    #[serde(default)]
    body_len: Option<u64>,
}

/// One line of the output, and one part of a batch.
#[derive(Debug, Serialize)]
struct Verdict {
    action: String,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Verdict>,
}

struct Judge {
    sql: bool,
    policies: Option<Policies>,
    principal: Principal,
}

impl Judge {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let policies = args.policies.as_deref().map(|dir| {
            Policies::load(&read_policies(dir)?, Catalog::built_in()).map_err(|problems| {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("the policies have problems:\n{}", lines.join("\n"))
            })
        });
        Ok(Self {
            sql: args.sql,
            policies: policies.transpose()?,
            principal: Principal {
                issuer: args.issuer.clone(),
                subject: args.subject.clone(),
                groups: args.groups.iter().cloned().collect::<BTreeSet<_>>(),
                claims: BTreeMap::new(),
            },
        })
    }

    fn line(&self, line: &[u8]) -> Result<Verdict, String> {
        let row: Row =
            serde_json::from_slice(line).map_err(|error| format!("it is no request: {error}"))?;
        let headers = row.header_map()?;
        let body = row.bytes()?;
        let catalog = Catalog::built_in();
        let (host, port) = row.authority()?;
        if METADATA_HOSTS.contains(&host.as_str()) {
            return Ok(Verdict::metadata(&host, &row.path));
        }
        if !catalog.is_google_host(&host) {
            return Ok(self.decide(&Operation::on_host(Action::NET_CONNECT, &host, Some(port))));
        }
        let head = Head {
            method: &row.method,
            authority: &row.host,
            path: &row.path,
            query: &row.query,
            headers: &headers,
        };
        let cut = row
            .body_len
            .is_some_and(|length| length > body.len() as u64);
        let payload = if cut {
            Payload::Beginning(&body)
        } else {
            Payload::Whole(&body)
        };
        Ok(
            match route(catalog, head).and_then(|route| route.complete(payload)) {
                Ok(recognised) => {
                    let within = recognised.within();
                    let within = within.iter().map(|(_, operation)| operation);
                    let parts: Vec<_> = recognised
                        .requests()
                        .iter()
                        .chain(within)
                        .map(|operation| self.decide(operation))
                        .collect();
                    match recognised {
                        Recognised::One(_) => Verdict::with_what_is_in_it(parts),
                        Recognised::Batch(_) => Verdict::batch(&host, &row.path, parts),
                    }
                }
                Err(malformed) => Verdict::malformed(&host, &row.path, &malformed.to_string()),
            },
        )
    }

    fn decide(&self, operation: &Operation) -> Verdict {
        let decision = self
            .policies
            .as_ref()
            .map(|policies| policies.decide(&self.principal, operation));
        let (decision, reason) = match decision {
            None => (None, None),
            Some(Decision::Allow(terms)) => {
                let names: Vec<_> = terms.policies.iter().map(ToString::to_string).collect();
                (Some("allow"), Some(names.join(", ")))
            }
            Some(Decision::Hold(hold)) => {
                let rules = hold.rules.iter().map(|rule| {
                    let why = rule.reason.as_deref().unwrap_or("an approval is needed");
                    format!("{}: {why} [{}]", rule.group, rule.policy)
                });
                (Some("hold"), Some(rules.collect::<Vec<_>>().join("; ")))
            }
            Some(Decision::Deny(denial)) => (Some("deny"), Some(denial.reason)),
        };
        Verdict {
            action: operation.action.id().to_owned(),
            resource: operation.resource.name.clone(),
            decision,
            reason,
            parts: Vec::new(),
        }
    }
}

impl Verdict {
    fn metadata(host: &str, path: &str) -> Self {
        Self {
            action: METADATA.to_owned(),
            resource: format!("//{host}{path}"),
            decision: Some("allow"),
            reason: Some("Holdpoint answers metadata requests itself".to_owned()),
            parts: Vec::new(),
        }
    }

    /// Refused, whatever policy says.
    fn malformed(host: &str, path: &str, why: &str) -> Self {
        Self {
            action: Action::UNKNOWN.to_owned(),
            resource: format!("//{host}{path}"),
            decision: Some("deny"),
            reason: Some(format!("malformed: {why}")),
            parts: Vec::new(),
        }
    }

    /// A request with SQL in it happens as the strictest of that may.
    fn with_what_is_in_it(mut verdicts: Vec<Self>) -> Self {
        let within = verdicts.split_off(1);
        let mut request = verdicts.remove(0);
        if !within.is_empty() {
            let mut all = Self::batch("", "", within);
            let is = |it: &&str| [request.decision, all.decision].contains(&Some(*it));
            let strictest = ["deny", "hold", "allow"].into_iter().find(is);
            if strictest != request.decision {
                request.decision = strictest;
                request.reason = None;
            }
            request.parts = std::mem::take(&mut all.parts);
        }
        request
    }

    /// A batch happens as its strictest part may.
    fn batch(host: &str, path: &str, parts: Vec<Self>) -> Self {
        let is = |verdict: &&str| parts.iter().any(|part| part.decision == Some(*verdict));
        Self {
            action: "batch".to_owned(),
            resource: format!("//{host}{path}"),
            decision: ["deny", "hold", "allow"].into_iter().find(is),
            reason: None,
            parts,
        }
    }
}

impl Row {
    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let header = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            );
            let (Ok(name), Ok(value)) = header else {
                return Err(format!("the header {name:?} is no header"));
            };
            map.try_append(name, value)
                .map_err(|_| "there are too many headers".to_owned())?;
        }
        Ok(map)
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        match &self.body_b64 {
            Some(encoded) => {
                let bytes = BASE64_STANDARD
                    .decode(encoded)
                    .map_err(|error| format!("body_b64: {error}"))?;
                Ok(bytes.into())
            }
            None => Ok(self.body.as_deref().unwrap_or_default().as_bytes().into()),
        }
    }

    /// The host, and the port that is asked for or that the scheme has.
    fn authority(&self) -> Result<(String, u16), String> {
        let authority: http::uri::Authority = self
            .host
            .parse()
            .map_err(|_| format!("{:?} is no host", self.host))?;
        let usual = if matches!(self.scheme.as_str(), "http" | "ws") {
            80
        } else {
            443
        };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        Ok((host, authority.port_u16().unwrap_or(usual)))
    }
}

mod sql;
#[cfg(test)]
mod tests;
