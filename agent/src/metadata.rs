//! The sandboxes' metadata server: what Google's documents for Compute Engine ("About VM metadata") and its clients lead
//! one to expect, with a placeholder where the access token would be. No IO.

#[cfg(test)]
mod tests;
mod tree;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION, SERVER},
};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::tree::Node;
use crate::session::SessionId;

/// Where every VM finds its metadata server over IPv4.
pub const ADDRESS_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The same over IPv6.
pub const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254);
/// Its names in DNS.
pub const NAMES: [&str; 2] = ["metadata.google.internal", "metadata"];

/// Seconds, as fresh tokens have them. The session replaces the placeholder however old it is.
const TOKEN_LIFETIME: u32 = 3599;
const FLAVOR: &str = "metadata-flavor";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// What a session's metadata server tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataView {
    /// The project id.
    pub project: String,
    /// The project's number; 0 is told where it is not known.
    pub numeric_project: Option<u64>,
    /// The service account's e-mail.
    pub account: String,
    /// The OAuth scopes of its tokens.
    pub scopes: Vec<String>,
    /// The zone, such as `us-central1-a`.
    pub zone: Option<String>,
    /// `googleapis.com` outside of sovereign clouds.
    pub universe_domain: String,
    /// The name of the VM.
    pub instance_name: String,
    /// The id of the VM.
    pub instance_id: u64,
    /// The access token it hands out, from [`placeholder`].
    pub placeholder: String,
}

/// A string that looks like an access token and is worth nothing: it is random and nobody knows it, Holdpoint included,
/// which goes by the session that a request comes from. The session's id in it is for whoever finds it in a log.
///
/// # Panics
/// When the kernel gives no random bytes.
#[must_use]
pub fn placeholder(session: &SessionId) -> String {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    format!("ya29.holdpoint-{session}-{}", hex::encode(random))
}

/// Whether a `Host` (without port) names the metadata server.
#[must_use]
pub fn is_metadata_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || bare.unwrap_or(host).parse().is_ok_and(is_metadata_address)
}

/// Whether this is the metadata server's address.
#[must_use]
pub fn is_metadata_address(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip == ADDRESS_V4,
        IpAddr::V6(ip) => ip == ADDRESS_V6,
    }
}

/// The answer to one request. `path` and `query` are as in the request's target.
#[must_use]
pub fn answer(
    view: &MetadataView,
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response<Bytes> {
    let mut answer = if method == Method::GET || method == Method::HEAD {
        read(view, path, query.unwrap_or_default(), headers)
    } else {
        let mut answer = refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "Metadata can only be read here.\n",
        );
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    };
    let length = answer.body().len();
    let headers = answer.headers_mut();
    // Go's client and others tell a metadata server by this header, whatever the status.
    headers.insert(FLAVOR, HeaderValue::from_static("Google"));
    headers.insert(SERVER, HeaderValue::from_static("Metadata Server for VM"));
    headers.insert(CONTENT_LENGTH, length.into());
    if method == Method::HEAD {
        *answer.body_mut() = Bytes::new();
    }
    answer
}

fn read(view: &MetadataView, path: &str, query: &str, headers: &HeaderMap) -> Response<Bytes> {
    // A request that was forwarded is not this VM's own.
    if headers.contains_key(FORWARDED_FOR) {
        return refuse(
            StatusCode::FORBIDDEN,
            "Requests with X-Forwarded-For are refused.\n",
        );
    }
    match path {
        // Clients find out with these whether they are on Google Cloud, Go's without the header.
        "" | "/" => return text("computeMetadata/\n"),
        "/computeMetadata/" => return text("v1/\n"),
        "/computeMetadata" => return redirect("/computeMetadata/", query),
        _ => {}
    }
    let Some(names) = path.strip_prefix("/computeMetadata/v1").and_then(names) else {
        return not_found(path);
    };
    if headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
        return refuse(
            StatusCode::FORBIDDEN,
            "Missing Metadata-Flavor:Google header.\n",
        );
    }
    match tree::root(view).find(&names) {
        Some(Node::Directory(_)) if !path.ends_with('/') => redirect(&format!("{path}/"), query),
        Some(node @ Node::Directory(_)) => value(node, query),
        Some(leaf) if !path.ends_with('/') => value(leaf, query),
        _ => not_found(path),
    }
}

/// The names in the rest of a path, `/` or `/a/b` or `/a/b/` or nothing. Clients escape the `@` of an e-mail, or do not;
/// an escaped slash ends up in a name, and no name has one.
fn names(rest: &str) -> Option<Vec<String>> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let names = rest.strip_prefix('/')?.split('/');
    let decoded = names.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
    Some(decoded.collect())
}

fn value(node: &Node, query: &str) -> Response<Bytes> {
    if asks(query, "wait_for_change", "true") {
        return refuse(
            StatusCode::BAD_REQUEST,
            "wait_for_change is not supported: what is told here does not change during a session.\n",
        );
    }
    match node {
        Node::Token(token) => as_json(&json!({
            "access_token": token, "expires_in": TOKEN_LIFETIME, "token_type": "Bearer",
        })),
        // Not 403, which would say it better: gcloud asks for one with every access token, takes 404 for "there is none"
        // and dies on anything else.
        Node::Identity => refuse(
            StatusCode::NOT_FOUND,
            "Holdpoint hands out no identity tokens: whoever holds one can act as the service account \
             where Holdpoint does not see it. Call Google's APIs with access tokens instead.\n",
        ),
        Node::Directory(_) if asks(query, "recursive", "true") => as_json(&node.json()),
        Node::Directory(_) => text(&node.text()),
        leaf if asks(query, "alt", "json") => as_json(&leaf.json()),
        leaf => text(&leaf.text()),
    }
}

fn asks(query: &str, name: &str, value: &str) -> bool {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .any(|(n, v)| n == name && v.eq_ignore_ascii_case(value))
}

fn text(body: &str) -> Response<Bytes> {
    respond(StatusCode::OK, "application/text", body.to_owned())
}

fn as_json(body: &Value) -> Response<Bytes> {
    // google-auth parses what is exactly of this type.
    respond(StatusCode::OK, "application/json", body.to_string())
}

fn refuse(status: StatusCode, why: &str) -> Response<Bytes> {
    respond(status, "text/plain; charset=utf-8", why.to_owned())
}

fn not_found(path: &str) -> Response<Bytes> {
    let shown: String = path.chars().take(200).collect();
    refuse(
        StatusCode::NOT_FOUND,
        &format!("There is no {shown:?} on the metadata server of a Holdpoint session.\n"),
    )
}

fn redirect(path: &str, query: &str) -> Response<Bytes> {
    let target = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let Ok(location) = HeaderValue::from_str(&target) else {
        return not_found(path);
    };
    let mut answer = refuse(StatusCode::MOVED_PERMANENTLY, "This is a directory.\n");
    answer.headers_mut().insert(LOCATION, location);
    answer
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let etag = hex::encode(&Sha256::digest(&body)[..8]);
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status.is_success() {
        let etag = HeaderValue::from_str(&etag).expect("hex digits are a header value");
        headers.insert(ETAG, etag);
    }
    answer
}
