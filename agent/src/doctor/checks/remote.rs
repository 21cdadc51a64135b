//! What is elsewhere: issuers, and the source of the credential.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

use super::Finding;
use crate::{
    config::{self, Config},
    credential::Credentials,
    oidc::Verifier,
    upstream::Upstream,
};

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 1 << 20;

/// Fetches every issuer's documents. Also how far this host's clock is ahead of theirs.
pub async fn issuers(config: &Config) -> (Vec<Finding>, Vec<SignedDuration>) {
    const SUBJECT: &str = "issuer";
    let verifier = match Verifier::new(&config.issuers, &config.upstream) {
        Ok(verifier) => verifier,
        Err(error) => {
            let advice = "correct [[issuer]] in the configuration";
            let failed = Finding::fail(SUBJECT, format!("{error:#}"), advice);
            return (vec![failed], Vec::new());
        }
    };
    let mut findings = Vec::new();
    for (url, reached) in verifier.reach().await {
        findings.push(match reached {
            Ok(0) => Finding::fail(
                SUBJECT,
                format!("{url} publishes no keys: none of its tokens can be verified"),
                "ask whoever runs it",
            ),
            Ok(count) => Finding::ok(
                SUBJECT,
                format!("{url}: discovery document and {count} keys"),
            ),
            Err(cause) => Finding::fail(
                SUBJECT,
                format!("{url}: {cause}: no session can be opened with its tokens"),
                "check name resolution, firewall, `ca_file` and the url",
            ),
        });
    }
    let mut ahead = Vec::new();
    for issuer in &config.issuers {
        ahead.extend(ahead_of(issuer, &config.upstream).await);
    }
    (findings, ahead)
}

/// By the `date` of its answer, if it has one.
async fn ahead_of(issuer: &config::Issuer, upstream: &config::Upstream) -> Option<SignedDuration> {
    let upstream = match &issuer.ca_file {
        Some(file) => Upstream::trusting_only(file, upstream),
        None => Upstream::new(upstream),
    };
    let base = issuer.url.strip_suffix('/').unwrap_or(&issuer.url);
    let request = Request::get(format!("{base}/.well-known/openid-configuration"))
        .body(Bytes::new())
        .ok()?;
    let answer = upstream
        .ok()?
        .fetch(request, LONGEST, PATIENCE)
        .await
        .ok()?;
    let date = answer.headers().get(header::DATE)?.to_str().ok()?;
    let theirs = rfc2822::parse(date).ok()?.timestamp();
    Some(Timestamp::now().duration_since(theirs))
}

/// Gets the credential, as a session would.
pub async fn credential(config: &Config) -> Finding {
    const SUBJECT: &str = "credential";
    let tried = async {
        let upstream = Upstream::new(&config.upstream)?;
        let credentials = Credentials::new(&config.google, upstream)?;
        credentials.authorization().await?;
        let (account, project) = (credentials.account().await?, credentials.project().await?);
        anyhow::Ok(format!(
            "an access token for {account} in project {project}"
        ))
    };
    match tried.await {
        Ok(says) => Finding::ok(SUBJECT, says),
        Err(error) => Finding::fail(
            SUBJECT,
            format!("{error:#}: nothing could be sent to Google"),
            "check [google] in the configuration, and the service account",
        ),
    }
}
