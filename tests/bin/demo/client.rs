//! What the agent uses: gcloud, or curl where that is not installed.

use anyhow::ensure;
use holdpoint_tests::{host, sandbox};

const INSTANCES: &str = "/sql/v1beta4/projects/lab-project/instances";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";
const OPEN_FIREWALL: &str = r#"{"name":"fw1","sourceRanges":["0.0.0.0/0"],"allowed":[{"IPProtocol":"tcp","ports":["22"]}]}"#;
const TOKEN: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";

/// A client of Google's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The real thing.
    Gcloud,
    /// Good enough to see what happens.
    Curl,
}

impl Client {
    /// What the agent finds.
    ///
    /// # Errors
    /// When it finds neither, or this is CI and gcloud is missing.
    pub fn choose() -> anyhow::Result<Self> {
        if host::program_in(sandbox::PATH, "gcloud").is_some() {
            return Ok(Self::Gcloud);
        }
        let path = sandbox::PATH;
        ensure!(!host::in_ci(), "needs gcloud in CI, in one of {path}");
        ensure!(
            host::program_in(path, "curl").is_some(),
            "needs gcloud, or at least curl, in one of {path}"
        );
        Ok(Self::Curl)
    }

    /// A read that policy allows.
    pub fn list(self) -> Vec<String> {
        match self {
            Self::Gcloud => words("gcloud sql instances list"),
            Self::Curl => curl(&["--fail"], &google("sqladmin", INSTANCES)),
        }
    }

    /// A delete that policy holds.
    pub fn delete(self) -> Vec<String> {
        match self {
            Self::Gcloud => words("gcloud sql instances delete prod-db --quiet"),
            Self::Curl => curl(
                &["--fail-with-body", "-X", "DELETE"],
                &google("sqladmin", PROD_DB),
            ),
        }
    }

    /// A write that policy denies.
    pub fn open_firewall(self) -> Vec<String> {
        let json = "Content-Type: application/json";
        match self {
            Self::Gcloud => words(
                "gcloud compute firewall-rules create fw1 --allow tcp:22 --source-ranges 0.0.0.0/0",
            ),
            Self::Curl => curl(
                &["--fail-with-body", "-H", json, "-d", OPEN_FIREWALL],
                &google("compute", FIREWALLS),
            ),
        }
    }

    /// The credential that the agent has.
    pub fn token(self) -> Vec<String> {
        match self {
            Self::Gcloud => words("gcloud auth print-access-token"),
            Self::Curl => curl(&["--fail", "-H", "Metadata-Flavor: Google"], TOKEN),
        }
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn google(service: &str, path: &str) -> String {
    format!("https://{service}.googleapis.com{path}")
}

fn curl(options: &[&str], url: &str) -> Vec<String> {
    let parts = ["curl", "-sS"].iter().chain(options).copied();
    parts.chain([url]).map(str::to_owned).collect()
}
