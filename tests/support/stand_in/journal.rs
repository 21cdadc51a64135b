//! `upstream.jsonl`: every request that reached the stand-in, one JSON object a line.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// One request, as it arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// When its head had arrived, in milliseconds since the epoch.
    pub t: u64,
    /// The HTTP verb.
    pub method: String,
    /// `:authority` or `Host`, lower case, without the port.
    pub host: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent, without `?`.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// `1.0`, `1.1` or `2`.
    pub http_version: String,
    /// All headers, in order.
    pub headers: Vec<(String, String)>,
    /// Bytes of body that arrived.
    pub body_len: u64,
    /// SHA-256 of the body that arrived, in hexadecimal.
    pub body_sha256: String,
    /// Whether the body's end was seen.
    pub complete: bool,
    /// Verb and path of each part of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(String, String)>,
}

impl Arrival {
    /// Whether this, or a part of this batch, is `method` on exactly `path`.
    #[must_use]
    pub fn asks(&self, method: &str, path: &str) -> bool {
        let part = |(verb, target): &(String, String)| {
            verb == method && target.split('?').next() == Some(path)
        };
        (self.method == method && self.path == path) || self.parts.iter().any(part)
    }
}

/// The file, open for appending.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    enabled: bool,
}

impl Journal {
    /// Starts an empty file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(Mutex::new(file)),
            enabled: true,
        })
    }

    /// The same, and nothing is written from now on: for benchmarks, which it would slow down.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.enabled = false;
        self
    }

    /// Whether requests are written down.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Everything that has arrived so far.
    ///
    /// # Errors
    /// When the file cannot be read back.
    pub fn arrivals(&self) -> anyhow::Result<Vec<Arrival>> {
        let _quiet = self.file.lock().expect("no panic while locked");
        let text = std::fs::read_to_string(&self.path)?;
        text.lines()
            .map(|line| serde_json::from_str(line).context("upstream.jsonl"))
            .collect()
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, arrival: &Arrival) {
        let mut line = serde_json::to_vec(arrival).expect("an arrival is plain data");
        line.push(b'\n');
        let mut file = self.file.lock().expect("no panic while locked");
        file.write_all(&line)
            .expect("upstream.jsonl can be written");
    }
}

/// A request on its way in; it gets its line when its body has ended, or has been given up.
#[derive(Debug)]
pub struct Entry {
    journal: Journal,
    arrival: Arrival,
    hash: Sha256,
}

impl Entry {
    /// Notes the time: the head has arrived.
    #[must_use]
    pub fn begin(journal: &Journal, head: &http::request::Parts, host: &str) -> Self {
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)));
        let version = match head.version {
            http::Version::HTTP_2 => "2",
            http::Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        let arrival = Arrival {
            t: now(),
            method: head.method.to_string(),
            host: host.to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            authorization: head.headers.get("authorization").map(text),
            http_version: version.to_owned(),
            headers: headers.collect(),
            body_len: 0,
            body_sha256: String::new(),
            complete: false,
            parts: Vec::new(),
        };
        Self {
            journal: journal.clone(),
            arrival,
            hash: Sha256::new(),
        }
    }

    /// A piece of the body arrived.
    pub fn body(&mut self, piece: &[u8]) {
        self.arrival.body_len += piece.len() as u64;
        self.hash.update(piece);
    }

    /// The body has ended; `parts` are the requests inside a batch.
    pub fn end(mut self, parts: Vec<(String, String)>) {
        self.arrival.complete = true;
        self.arrival.parts = parts;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.arrival.body_sha256 = hex::encode(self.hash.finalize_reset());
        self.journal.write(&self.arrival);
    }
}

/// Milliseconds since the epoch.
///
/// # Panics
/// When the clock stands before 1970.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("the clock is right").as_millis())
        .expect("before the year 584 million")
}
