//! Answers that Holdpoint makes itself, in the engine's form.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// The engine's, or Holdpoint's own.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

pub fn ask_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
}

/// The form of the engine's own errors.
pub fn told(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &json!({ "message": message }))
}

pub fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let body = match value {
        Value::Null => Bytes::new(),
        value => value.to_string().into(),
    };
    let mut response = Response::new(
        Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

pub fn empty() -> Body {
    Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync()
}
