//! The responses that Holdpoint makes itself.

use bytes::Bytes;
use holdpoint_core::refusal::{Dress, Refusal};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use crate::upstream::ProxyBody;

/// The response that tells a client of a refusal.
#[must_use]
pub fn render(refusal: &Refusal, dress: Dress) -> Response<ProxyBody> {
    let mut response = Response::new(full(Bytes::new()));
    let headers = response.headers_mut();
    let (content_type, body) = match dress {
        Dress::Grpc => {
            let (status, message) = refusal.to_grpc();
            for (name, text) in [("grpc-status", status), ("grpc-message", message)] {
                if let Ok(value) = text.parse() {
                    headers.insert(name, value);
                }
            }
            ("application/grpc", String::new())
        }
        Dress::Json => ("application/json; charset=UTF-8", refusal.to_json()),
        Dress::Xml => ("application/xml; charset=UTF-8", refusal.to_xml()),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if dress != Dress::Grpc {
        *response.status_mut() =
            StatusCode::from_u16(refusal.kind.status()).unwrap_or(StatusCode::FORBIDDEN);
        *response.body_mut() = full(body.into());
    }
    response
}

fn full(bytes: Bytes) -> ProxyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
