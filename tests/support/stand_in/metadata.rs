//! The host's metadata server, the one that hands out the real token
//! (<https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>).

use http::StatusCode;
use serde_json::json;

use super::{ACCOUNT, Answer, Call, PROJECT, PROJECT_NUMBER, Service, ZONE};

/// Knows the token.
pub struct MetadataServer {
    token: String,
}

impl MetadataServer {
    /// One that hands out `token`.
    pub fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
        }
    }

    fn value(&self, path: &[&str]) -> Option<Answer> {
        let text = |value: &str| Answer::of("application/text", value.to_owned().into());
        let scopes = "https://www.googleapis.com/auth/cloud-platform";
        Some(match path {
            ["project", "project-id"] => text(PROJECT),
            ["project", "numeric-project-id"] => text(&PROJECT_NUMBER.to_string()),
            ["universe", "universe-domain" | "universe_domain"] => text("googleapis.com"),
            ["instance", "service-accounts"] | ["instance", "service-accounts", ""] => {
                text(&format!("default/\n{ACCOUNT}/\n"))
            }
            ["instance", "zone"] => text(&format!("projects/{PROJECT_NUMBER}/zones/{ZONE}")),
            ["instance", "name"] => text("runner-1"),
            ["instance", "id"] => text("4242424242424242424"),
            [
                "instance",
                "service-accounts",
                "default" | ACCOUNT,
                rest @ ..,
            ] => match rest {
                ["email"] => text(ACCOUNT),
                ["scopes"] => text(scopes),
                ["token"] => Answer::json(&json!({
                    "access_token": self.token, "expires_in": 3599, "token_type": "Bearer",
                })),
                [] | [""] => Answer::json(
                    &json!({"aliases": ["default"], "email": ACCOUNT, "scopes": [scopes]}),
                ),
                _ => return None,
            },
            _ => return None,
        })
    }
}

impl Service for MetadataServer {
    fn answer(&self, call: &Call) -> Answer {
        if call.segments == [""] {
            return Answer::of("application/text", "computeMetadata/\n".into())
                .with_header("metadata-flavor", "Google");
        }
        if call.header("metadata-flavor") != Some("Google") {
            return Answer::nothing().with_status(StatusCode::FORBIDDEN);
        }
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let answer = match segments.as_slice() {
            ["computeMetadata", "v1", path @ ..] => self.value(path),
            _ => None,
        };
        answer
            .unwrap_or_else(|| Answer::nothing().with_status(StatusCode::NOT_FOUND))
            .with_header("metadata-flavor", "Google")
    }
}
