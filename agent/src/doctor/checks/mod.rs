//! What this host, its configuration and its daemon look like.

mod clock;
mod configuration;
mod daemon;
mod databases;
mod enforcement;
mod files;
mod finding;
mod host;
mod remote;

use std::path::Path;

pub use finding::{Finding, Grade};

/// Looks at everything. What cannot be looked at is a finding, too.
pub async fn all(config: &Path) -> Vec<Finding> {
    let mut findings = host::check();
    let (config, found) = configuration::check(config);
    findings.extend(found);
    let Some(config) = config else {
        findings.push(clock::check(&[]));
        return findings;
    };
    let (status, found) = daemon::check(&config).await;
    findings.extend(found);
    findings.push(daemon::launcher(&config));
    findings.extend(enforcement::check(&config, status.as_ref()));
    findings.extend(files::check(&config, status.is_some()));
    let (issuers, times) = remote::issuers(&config).await;
    findings.extend(issuers);
    findings.push(clock::check(&times));
    findings.push(remote::credential(&config).await);
    findings.extend(databases::check(&config).await);
    findings
}
