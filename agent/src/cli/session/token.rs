//! The job's ID token, from where its CI system has it.

use std::{env, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    cli::run::{TOKEN_VARIABLE, read_token},
    config,
    upstream::Upstream,
};

/// Where a GitHub job asks for ID tokens
/// (<https://docs.github.com/actions/reference/security/oidc>).
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

const ATTEMPTS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: usize = 64 * 1024;

/// Where the token is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    File(&'a Path),
    Variable(&'a str),
    GitHub,
}

impl<'a> Source<'a> {
    /// The named one, else the first that this job has.
    pub(super) fn choose(file: Option<&'a Path>, variable: Option<&'a str>) -> Option<Self> {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        match (file, variable) {
            (Some(file), _) => Some(Self::File(file)),
            (None, Some(name)) => is_set(name).then_some(Self::Variable(name)),
            (None, None) if is_set(TOKEN_VARIABLE) => Some(Self::Variable(TOKEN_VARIABLE)),
            (None, None) => is_set(GITHUB_URL).then_some(Self::GitHub),
        }
    }

    pub(super) async fn token(&self, audience: &str) -> anyhow::Result<Zeroizing<String>> {
        match self {
            Self::File(file) => read_token(file)
                .with_context(|| format!("cannot read the token file {}", file.display())),
            Self::Variable(name) => variable(name),
            Self::GitHub => github(audience).await,
        }
    }
}

fn variable(name: &str) -> anyhow::Result<Zeroizing<String>> {
    let value = env::var(name).with_context(|| format!("{name} is not set to text"))?;
    Ok(Zeroizing::new(value))
}

async fn github(audience: &str) -> anyhow::Result<Zeroizing<String>> {
    let (url, token) = (variable(GITHUB_URL)?, variable(GITHUB_TOKEN)?);
    let uri = with_audience(&url, audience);
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", *token))
        .with_context(|| format!("{GITHUB_TOKEN} is no token"))?;
    bearer.set_sensitive(true);
    let upstream = Upstream::new(&config::Upstream::default())?;
    let mut attempt = 1;
    loop {
        match request(&upstream, &uri, &bearer).await {
            Err(error) if attempt < ATTEMPTS => {
                eprintln!("holdpoint: {error:#}; asking again");
                tokio::time::sleep(Duration::from_secs(attempt.into())).await;
                attempt += 1;
            }
            outcome => return outcome.context("GitHub gives this job no ID token"),
        }
    }
}

fn with_audience(url: &str, audience: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let audience = utf8_percent_encode(audience, NON_ALPHANUMERIC);
    format!("{url}{separator}audience={audience}")
}

async fn request(
    upstream: &Upstream,
    uri: &str,
    bearer: &HeaderValue,
) -> anyhow::Result<Zeroizing<String>> {
    #[derive(Deserialize)]
    struct Answer {
        value: Zeroizing<String>,
    }
    let request = Request::get(uri).header(AUTHORIZATION, bearer);
    let answer = upstream
        .fetch(request.body(Bytes::new())?, ANSWER_LIMIT, TIMEOUT)
        .await?;
    let status = answer.status();
    ensure!(status == StatusCode::OK, "it answered {status}");
    // What serde says of a mismatch may quote the token.
    let answer: Answer = serde_json::from_slice(answer.body())
        .map_err(|_| anyhow::anyhow!("its answer is not JSON with a value"))?;
    Ok(answer.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_added_to_whatever_query_there_is() {
        assert_eq!(
            with_audience("https://ci.example/t?api-version=2.0", "a b&c"),
            "https://ci.example/t?api-version=2.0&audience=a%20b%26c"
        );
        assert_eq!(
            with_audience("https://ci.example/t", "holdpoint"),
            "https://ci.example/t?audience=holdpoint"
        );
    }

    #[test]
    fn what_is_named_wins() {
        let file = Path::new("/t");
        assert_eq!(Source::choose(Some(file), None), Some(Source::File(file)));
        let unset = "HOLDPOINT_NO_SUCH_VARIABLE";
        assert_eq!(Source::choose(None, Some(unset)), None);
        assert_eq!(
            Source::choose(None, Some("PATH")),
            Some(Source::Variable("PATH"))
        );
    }
}
