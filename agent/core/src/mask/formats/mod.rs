//! The forms of what is looked for. Each is found from an *anchor*, a few bytes that are rare elsewhere, and is then read by a
//! function of its own, which looks at a bounded stretch around it.

mod assigned;
pub(super) mod email;
mod encoded;
mod iban;
mod jwt;
mod key;
pub(super) mod numbers;
mod phone;
mod tokens;
mod url;

use std::ops::Range;

use super::{Builtin, find::Context};
use Builtin as B;
pub(super) use key::END as BLOCK_END;

/// Reads what stands at an anchor.
pub(super) type Anchored = fn(text: &[u8], anchor: Range<usize>, context: Context) -> Seen;

/// What was seen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is what the anchor promised.
    Hit(Range<usize>),
    /// It begins here, and its end is missing.
    Open(usize),
    /// It is not.
    Nothing,
    /// It is not, and neither is anything else of its kind before this place.
    NothingTo(usize),
}

impl From<Option<Range<usize>>> for Seen {
    fn from(found: Option<Range<usize>>) -> Self {
        found.map_or(Self::Nothing, Self::Hit)
    }
}

/// What to look from. Case does not matter in an anchor; the functions look at it where it does.
pub(super) const ANCHORS: [(&str, Builtin, Anchored); 51] = [
    ("-----BEGIN", B::PrivateKey, key::pem),
    ("BADANBgkqhkiG9w0BAQEFAASC", B::PrivateKey, key::pkcs8_rsa),
    ("AgEAMBMGByqGSM49AgEGC", B::PrivateKey, key::pkcs8_ec),
    ("LS0tLS1CRUdJTi", B::EncodedKey, encoded::key),
    ("0tLS0tQkVHSU4g", B::EncodedKey, encoded::key),
    ("tLS0tLUJFR0lOI", B::EncodedKey, encoded::key),
    ("AIza", B::GoogleApiKey, tokens::google_api_key),
    ("ya29.", B::GoogleAccessToken, tokens::google_access),
    ("1//", B::GoogleRefreshToken, tokens::google_refresh),
    ("GOCSPX-", B::GoogleClientSecret, tokens::google_client),
    ("ghp_", B::GithubToken, tokens::github),
    ("gho_", B::GithubToken, tokens::github),
    ("ghu_", B::GithubToken, tokens::github),
    ("ghs_", B::GithubToken, tokens::github),
    ("ghr_", B::GithubToken, tokens::github),
    ("github_pat_", B::GithubToken, tokens::github),
    ("glpat-", B::GitlabToken, tokens::gitlab),
    ("gldt-", B::GitlabToken, tokens::gitlab),
    ("glrt-", B::GitlabToken, tokens::gitlab),
    ("glptt-", B::GitlabToken, tokens::gitlab),
    ("glcbt-", B::GitlabToken, tokens::gitlab),
    ("gloas-", B::GitlabToken, tokens::gitlab),
    ("glsoat-", B::GitlabToken, tokens::gitlab),
    ("glft-", B::GitlabToken, tokens::gitlab),
    ("glimt-", B::GitlabToken, tokens::gitlab),
    ("glagent-", B::GitlabToken, tokens::gitlab),
    ("xoxb-", B::SlackToken, tokens::slack),
    ("xoxp-", B::SlackToken, tokens::slack),
    ("xoxa-", B::SlackToken, tokens::slack),
    ("xoxr-", B::SlackToken, tokens::slack),
    ("xoxs-", B::SlackToken, tokens::slack),
    ("xoxo-", B::SlackToken, tokens::slack),
    ("xoxc-", B::SlackToken, tokens::slack),
    ("xoxd-", B::SlackToken, tokens::slack),
    ("xoxe", B::SlackToken, tokens::slack),
    ("xapp-", B::SlackToken, tokens::slack),
    ("hooks.slack.com/", B::SlackWebhook, tokens::slack_webhook),
    ("AKIA", B::AwsAccessKeyId, tokens::aws_id),
    ("ASIA", B::AwsAccessKeyId, tokens::aws_id),
    ("secretaccesskey", B::AwsSecretKey, assigned::aws_secret),
    ("secret_access_key", B::AwsSecretKey, assigned::aws_secret),
    ("sk-", B::OpenaiKey, tokens::openai),
    ("sk-ant-", B::AnthropicKey, tokens::anthropic),
    ("eyJ", B::Jwt, jwt::jwt),
    ("://", B::ConnectionPassword, url::password),
    ("signature=", B::UrlSignature, url::signature),
    ("bearer ", B::Authorization, assigned::authorization),
    ("basic ", B::Authorization, assigned::authorization),
    ("password", B::AssignedSecret, assigned::secret),
    ("secret", B::AssignedSecret, assigned::secret),
    ("token", B::AssignedSecret, assigned::secret),
];

/// The end of the run of bytes of a class from `from` on, which is at most `limit` long.
fn run_end(text: &[u8], from: usize, limit: usize, class: fn(u8) -> bool) -> usize {
    let rest = &text[from..text.len().min(from.saturating_add(limit))];
    from + rest
        .iter()
        .position(|byte| !class(*byte))
        .unwrap_or(rest.len())
}

/// The start of the run of bytes of a class up to `to`, which is at most `limit` long.
fn run_start(text: &[u8], to: usize, limit: usize, class: fn(u8) -> bool) -> usize {
    let rest = &text[to.saturating_sub(limit)..to];
    to - rest
        .iter()
        .rev()
        .position(|byte| !class(*byte))
        .unwrap_or(rest.len())
}

fn before(text: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).map(|at| text[at])
}

/// The alphabet of base64url, of which most tokens are made.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::{
        Builtin,
        find::{Context, Finder},
    };

    /// What the one detector finds in `text`.
    pub(crate) fn found_in(builtin: Builtin, text: &str, context: Context) -> Vec<String> {
        let finder = Finder::new(&[(builtin, 0)], Vec::new(), Vec::new());
        let mut hits = Vec::new();
        finder.find(text.as_bytes(), context, &mut hits);
        hits.iter()
            .map(|hit| String::from_utf8_lossy(&text.as_bytes()[hit.at.clone()]).into_owned())
            .collect()
    }

    /// Each text holds exactly this one.
    pub(crate) fn finds(builtin: Builtin, secrets: &[&str]) {
        for secret in secrets {
            for (before, after) in [
                ("", ""),
                ("x=", " y"),
                ("\"", "\""),
                ("(", ")"),
                (
                    "
", "
",
                ),
                ("<", "ü"),
            ] {
                let text = format!("{before}{secret}{after}");
                let found = found_in(builtin, &text, Context::default());
                assert_eq!(found, [*secret], "in {text:?}");
            }
        }
    }

    /// None of the texts holds anything.
    pub(crate) fn finds_nothing(builtin: Builtin, texts: &[&str]) {
        for text in texts {
            let found = found_in(builtin, text, Context::default());
            assert!(found.is_empty(), "{found:?} in {text:?}");
        }
    }
}
