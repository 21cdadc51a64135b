//! `generateEphemeralCert`: a certificate for a connector, signed here.

use bytes::Bytes;
use holdpoint_core::{
    operation::Operation,
    refusal::{Kind, Refusal},
};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::instance_of;
use crate::{binding::Room, daemon::House, gate::Permits, tls::Whose, upstream::ProxyBody};

/// Answers an admitted request in Google's place. What the agent has is worth nothing but at Holdpoint, in this session.
///
/// # Errors
/// When the instance has no `[[connection]]`, or the request names no public key.
pub fn certify(
    house: &House,
    room: &Room,
    permits: Permits,
    request: &Operation,
) -> Result<Response<ProxyBody>, Refusal> {
    let mut outcome = permits.spend();
    let named = instance_of(&request.resource.name);
    let Some(entry) = named.and_then(|(project, id)| house.databases.of_instance(project, id))
    else {
        return Err(Refusal::new(
            Kind::Denied,
            format!(
                "Holdpoint refused this: {} is in no [[connection]] of its configuration, so sessions cannot connect to it. The operator of this runner has to add one to \
                 /etc/holdpoint/holdpoint.toml, with instance = \"PROJECT:REGION:INSTANCE\".",
                request.resource.name
            ),
        ));
    };
    let key = request
        .json
        .as_deref()
        .and_then(|body| body.field("publicKey")?.text());
    let key = key.ok_or_else(|| Refusal::malformed("it has no public_key in a JSON body"))?;
    let whose = Whose {
        session: room.session.id.as_str().to_owned(),
        entry: entry.name.to_string(),
    };
    let signed = house.connector.sign(key, &whose);
    let (certificate, until) = signed.map_err(|error| Refusal::malformed(&format!("{error:#}")))?;
    outcome.sending();
    outcome.answered(200);
    outcome.closed();
    let body = json!({"ephemeralCert": {
        "kind": "sql#sslCert",
        "cert": certificate,
        "commonName": "Holdpoint session",
        "expirationTime": until.to_string(),
        "instance": named.map(|(_, id)| id),
    }});
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    let json = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}
