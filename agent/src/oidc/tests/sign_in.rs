//! Signing in as a client with a secret (OpenID Connect Core 1.0, section 9).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use base64::prelude::BASE64_STANDARD;
use http::Response;

use super::*;
use crate::{
    oidc::code::{SignIn, SignInError},
    upstream::testing::{Seen, TestServer, json as answer},
};

const CLIENT: &str = "holdpoint web";
const SECRET: &str = "s3cret: 100%";
const BACK: &str = "https://host.example/back";

/// Signs somebody in at an issuer that takes a client's secret by `method` alone.
async fn sign_in(method: &'static str, secret: &str) -> Result<Principal, SignInError> {
    let key = Arc::new(Key::new("a", Algorithm::ES256));
    let nonce = Arc::new(Mutex::new(String::new()));
    let (keys, told) = (jwks(&[&key]), nonce.clone());
    let respond = move |seen: &Seen| match seen.uri.path() {
        "/tenant/.well-known/openid-configuration" => answer(
            200,
            &json!({
                "issuer": URL, "jwks_uri": "https://issuer.example/jwks",
                "authorization_endpoint": "https://issuer.example/authorize",
                "token_endpoint": "https://issuer.example/token",
                "token_endpoint_auth_methods_supported": [method],
            }),
        ),
        "/jwks" => Response::new(keys.clone()),
        "/token" if !is_authenticated(method, seen) => {
            answer(401, &json!({"error": "invalid_client"}))
        }
        "/token" => {
            let nonce = told.lock().expect("no panic while locked").clone();
            let now = Timestamp::now().as_second();
            let token = key.sign(&claims(json!({
                "aud": CLIENT, "nonce": nonce, "exp": now + 60, "iat": now, "nbf": now,
            })));
            answer(200, &json!({"id_token": token, "token_type": "Bearer"}))
        }
        _ => answer(404, &json!({})),
    };
    let server = TestServer::tls(&["issuer.example"], &["h2", "http/1.1"], respond).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    fs::write(&file, format!("{secret}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    let issuer = config::Issuer {
        url: URL.to_owned(),
        audience: AUDIENCE.to_owned(),
        algorithms: vec!["ES256".into()],
        groups_claim: None,
        ca_file: Some(server.ca_file().to_owned()),
        client_id: Some(CLIENT.into()),
        client_secret_file: Some(file),
    };
    let upstream = config::Upstream {
        ca_file: None,
        ..server.settings()
    };
    let people = SignIn::new(&[issuer], &upstream).expect("usable");
    let (begun, location) = people.begin(0, BACK, "state").await?;
    let asked = location.split("nonce=").nth(1).expect("a nonce");
    let asked = asked.split('&').next().expect("its end");
    *nonce.lock().expect("no panic while locked") = asked.replace("%2D", "-").replace("%5F", "_");
    let signed_in = people.finish(begun, "a code", None, BACK).await;
    assert!(
        server
            .seen()
            .iter()
            .all(|it| !it.uri.to_string().contains("s3cret")),
        "a secret in a URL"
    );
    signed_in
}

fn is_authenticated(method: &str, seen: &Seen) -> bool {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let header = seen.headers.get("authorization");
    match method {
        // Both parts are form-encoded first (RFC 6749, section 2.3.1).
        "client_secret_basic" => {
            let pair = BASE64_STANDARD.encode("holdpoint%20web:s3cret%3A%20100%25");
            header.is_some_and(|it| it == &format!("Basic {pair}"))
                && !body.contains("client_secret")
        }
        _ => {
            header.is_none()
                && body.contains("client_id=holdpoint%20web")
                && body.contains("client_secret=s3cret%3A%20100%25")
        }
    }
}

#[tokio::test]
async fn a_client_with_a_secret_shows_it_as_the_issuer_wants() {
    for method in ["client_secret_basic", "client_secret_post"] {
        let person = sign_in(method, SECRET).await;
        let person = person.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(person.subject, "repo:acme/shop");
        let wrong = sign_in(method, "another").await.expect_err("wrong");
        assert!(!format!("{wrong} {wrong:?}").contains("another"), "{wrong}");
    }
}
