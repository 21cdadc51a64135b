//! What a reviewer sees of the request.

use std::collections::BTreeSet;

use holdpoint_core::operation::Operation;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::record::{names_a_secret, shown_value};

/// Bytes of a body that reviewers see at most.
const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of one header's value that reviewers see at most.
const HEADER_LIMIT: usize = 4096;

/// The request as a reviewer sees it. In memory only; credentials are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The action's id.
    pub action: String,
    /// The resource's name.
    pub resource: String,
    /// The effective HTTP verb.
    pub method: String,
    /// `https://HOST/PATH?QUERY`, as sent but for secrets.
    pub url: String,
    /// What policy found noteworthy, by name.
    pub traits: BTreeSet<String>,
    /// The headers, credentials left out, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: BodyView,
}

/// A body as a reviewer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyView {
    /// The beginning, 64 KiB at most. Bytes that are not UTF-8 show as U+FFFD.
    pub text: String,
    /// Bytes in all.
    pub length: u64,
    /// Whether there is more than `text` shows.
    pub cut: bool,
}

impl RequestView {
    /// What reviewers see of `operation`, asked for with these headers and this body (decoded: no compression, no
    /// chunks).
    #[must_use]
    pub fn new(operation: &Operation, headers: &HeaderMap, body: &[u8]) -> Self {
        Self {
            action: operation.action.id().to_owned(),
            resource: operation.resource.name.clone(),
            method: operation.method.clone(),
            url: url(operation),
            traits: operation
                .traits
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
            headers: shown_headers(headers),
            body: BodyView::new(body),
        }
    }
}

impl BodyView {
    fn new(body: &[u8]) -> Self {
        let shown = body.get(..BODY_LIMIT).unwrap_or(body);
        Self {
            text: String::from_utf8_lossy(shown).into_owned(),
            length: body.len() as u64,
            cut: shown.len() < body.len(),
        }
    }
}

fn url(operation: &Operation) -> String {
    let query: Vec<_> = operation
        .query
        .iter()
        .map(|(name, value)| format!("{name}={}", shown_value(name, value)))
        .collect();
    let separator = if query.is_empty() { "" } else { "?" };
    format!(
        "https://{}{}{separator}{}",
        operation.host,
        operation.path,
        query.join("&")
    )
}

fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, value)| !value.is_sensitive() && !names_a_secret(name.as_str()))
        .map(|(name, value)| {
            let value = value.as_bytes();
            let shown = value.get(..HEADER_LIMIT).unwrap_or(value);
            (
                name.to_string(),
                String::from_utf8_lossy(shown).into_owned(),
            )
        })
        .collect()
}
