//! Requests as somebody writes them down, recognised as the daemon would.

use std::sync::Arc;

use crate::masking::SEARCHED;
use holdpoint_core::{
    catalog::Catalog,
    contains,
    mask::{MaskSet, Masks},
    operation::{Action, Operation},
    policy::suite::RawRequest,
    recognise::{self, Head, Malformed, Payload},
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// What the daemon would recognise in the request; see [`holdpoint_core::policy::suite::Recognise`].
pub(super) fn operations(
    request: &RawRequest,
) -> Result<Result<Vec<Operation>, Malformed>, String> {
    let url: Uri = request
        .url
        .parse()
        .map_err(|error| format!("the url is not one: {error}"))?;
    let authority = url.authority().ok_or("the url has no host")?;
    let (body, headers) = request.content()?;
    let mut fields = HeaderMap::new();
    for (name, value) in &headers {
        let wrong = |error: &dyn std::fmt::Display| format!("the header {name:?}: {error}");
        let field: HeaderName = name.parse().map_err(|error| wrong(&error))?;
        let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
        fields.append(field, value);
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    if !Catalog::built_in().is_google_host(&host) {
        let port = authority.port_u16().unwrap_or(443);
        let connect = Operation::on_host(Action::NET_CONNECT, &host, Some(port));
        return Ok(Ok(vec![connect]));
    }
    let head = Head {
        method: &request.method,
        authority: authority.as_str(),
        path: url.path(),
        query: url.query().unwrap_or_default(),
        headers: &fields,
    };
    Ok(recognised(head, &body))
}

fn recognised(head: Head<'_>, body: &[u8]) -> Result<Vec<Operation>, Malformed> {
    let route = recognise::route(Catalog::built_in(), head)?;
    let recognised = route.complete(Payload::Whole(body))?;
    let within = recognised
        .within()
        .into_iter()
        .map(|(_, operation)| operation);
    let mut operations = recognised.requests().to_vec();
    operations.extend(within);
    let found = contains::found_in(&searched(), &head, Payload::Whole(body));
    for operation in &mut operations {
        operation.contains = Some(found.clone());
    }
    Ok(operations)
}

/// What the daemon looks for where nothing is configured.
fn searched() -> Arc<MaskSet> {
    // Only found in tokens, of which none are made here.
    let key = [0; 32];
    let masks = Masks::new(&[], key).expect("the built-in sets are sound");
    masks.union(SEARCHED).expect("they are built in")
}
