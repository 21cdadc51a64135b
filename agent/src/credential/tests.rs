use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::Response;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::*;
use crate::{
    config::CredentialSource,
    upstream::testing::{Seen, TestServer, json as answer},
};

const ACCOUNT: &str = "agent@lab-project.iam.gserviceaccount.com";

fn google(credential: CredentialSource) -> config::Google {
    config::Google {
        project: None,
        account: None,
        zone: None,
        universe_domain: "googleapis.com".into(),
        scopes: vec!["https://a.example/one".into(), "two".into()],
        credential,
    }
}

/// A key file as Google makes them, and the public key.
fn key_file(dir: &tempfile::TempDir) -> (PathBuf, DecodingKey) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let file = dir.path().join("key.json");
    let json = json!({
        "type": "service_account", "project_id": "lab-project", "private_key_id": "k1",
        "private_key": pair.serialize_pem(), "client_email": ACCOUNT, "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    std::fs::write(&file, json.to_string()).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("changed");
    let public = DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes()).expect("a key");
    (file, public)
}

async fn token_server(
    respond: impl Fn(usize) -> Response<Bytes> + Send + Sync + 'static,
) -> TestServer {
    let asked = AtomicUsize::new(0);
    let handler = move |_: &Seen| respond(asked.fetch_add(1, Ordering::SeqCst));
    TestServer::tls(&["oauth2.googleapis.com"], &["h2"], handler).await
}

fn token(number: usize, expires_in: u32) -> Response<Bytes> {
    let token = format!("ya29.real-{number}");
    answer(
        200,
        &json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}),
    )
}

fn with_key(server: &TestServer, file: PathBuf) -> Credentials {
    let upstream = Upstream::new(&server.settings()).expect("a client");
    let google = google(CredentialSource::ServiceAccountKey { file });
    Credentials::new(&google, upstream).expect("a key file")
}

#[tokio::test]
async fn a_key_is_exchanged_once_for_a_token_that_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, public) = key_file(&dir);
    let server = token_server(|number| token(number, 3600)).await;
    let credentials = Arc::new(with_key(&server, file));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let credentials = Arc::clone(&credentials);
        callers.spawn(async move { credentials.authorization().await.expect("a token") });
    }
    for value in callers.join_all().await {
        assert_eq!(value, "Bearer ya29.real-0");
        assert!(value.is_sensitive());
    }
    assert_eq!(server.seen().len(), 1, "one caller fetches for all");

    let request = &server.seen()[0];
    assert_eq!(
        (request.method.as_str(), request.uri.path()),
        ("POST", "/token")
    );
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    let form = std::str::from_utf8(&request.body).expect("text");
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer&assertion=";
    let assertion = form.strip_prefix(grant).expect("the grant");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&["https://oauth2.googleapis.com/token"]);
    let decoded =
        jsonwebtoken::decode::<Value>(assertion, &public, &rules).expect("signed by the key");
    assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
    assert_eq!(decoded.claims["iss"], ACCOUNT);
    assert_eq!(decoded.claims["scope"], "https://a.example/one two");

    assert_eq!(credentials.account().await.expect("known"), ACCOUNT);
    assert_eq!(credentials.project().await.expect("known"), "lab-project");
    let shown = format!("{credentials:?}");
    assert!(
        !shown.contains("ya29") && !shown.contains("PRIVATE"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_old_token_serves_when_the_exchange_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, _) = key_file(&dir);
    let server = token_server(|number| match number {
        0 => token(0, 100),
        _ => answer(503, &json!({})),
    })
    .await;
    let credentials = with_key(&server, file);
    assert_eq!(
        credentials.authorization().await.expect("a token"),
        "Bearer ya29.real-0"
    );
    credentials.cache().allow_fetch();
    assert_eq!(
        credentials.authorization().await.expect("the old one"),
        "Bearer ya29.real-0"
    );
    assert_eq!(server.seen().len(), 2, "a new one was asked for");
}

#[tokio::test]
async fn a_refusal_says_why_and_is_not_repeated_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, _) = key_file(&dir);
    let server = token_server(|_| {
        let refusal =
            json!({"error": "invalid_grant", "error_description": "Invalid JWT\nSignature."});
        answer(400, &refusal)
    })
    .await;
    let credentials = with_key(&server, file);
    for _ in 0..3 {
        let text = credentials
            .authorization()
            .await
            .expect_err("refused")
            .to_string();
        assert!(text.contains(ACCOUNT) && text.contains("400"), "{text}");
        assert!(
            text.contains("(invalid_grant Invalid JWTSignature.)"),
            "{text}"
        );
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn answers_that_are_no_tokens_are_refused_and_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    for body in [
        json!({"access_token": "SECRET", "token_type": "Bearer"}),
        json!({"access_token": "SECRET", "expires_in": "soon", "token_type": "Bearer"}),
        json!({"access_token": "SECRET", "expires_in": 3600, "token_type": "mac"}),
        json!({"access_token": "SECRET\r\nx: y", "expires_in": 3600, "token_type": "Bearer"}),
        json!({"access_token": "SECRET", "expires_in": 5, "token_type": "Bearer"}),
        json!("SECRET"),
    ] {
        let (file, _) = key_file(&dir);
        let server = token_server(move |_| answer(200, &body)).await;
        let error = with_key(&server, file.clone())
            .authorization()
            .await
            .expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("SECRET"), "{text}");
        std::fs::remove_file(file).expect("removed");
    }
}

fn metadata_answer(seen: &Seen) -> Response<Bytes> {
    let body = match seen.uri.path() {
        "/computeMetadata/v1/instance/service-accounts/default/token" => {
            return flavored(token(1, 3599));
        }
        "/computeMetadata/v1/instance/service-accounts/default/email" => ACCOUNT,
        "/computeMetadata/v1/project/project-id" => "lab-project\n",
        _ => return flavored(answer(404, &json!({}))),
    };
    flavored(Response::new(Bytes::from_static(body.as_bytes())))
}

fn flavored(mut answer: Response<Bytes>) -> Response<Bytes> {
    answer
        .headers_mut()
        .insert("metadata-flavor", HeaderValue::from_static("Google"));
    answer
}

#[tokio::test]
async fn a_metadata_server_gives_token_account_and_project() {
    let server = TestServer::plain(metadata_answer).await;
    // No override leads a metadata server's address astray.
    let upstream = config::Upstream {
        ca_file: None,
        addresses: [("*".to_owned(), ([127, 0, 0, 1], 1).into())].into(),
    };
    let upstream = Upstream::new(&upstream).expect("a client");
    let source = CredentialSource::Metadata {
        address: server.address,
    };
    let credentials = Credentials::new(&google(source), upstream).expect("credentials");
    for _ in 0..2 {
        assert_eq!(
            credentials.authorization().await.expect("a token"),
            "Bearer ya29.real-1"
        );
        assert_eq!(credentials.account().await.expect("known"), ACCOUNT);
        assert_eq!(credentials.project().await.expect("known"), "lab-project");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 3, "each is asked once");
    assert!(
        seen.iter()
            .all(|seen| seen.headers["metadata-flavor"] == "Google")
    );
    assert_eq!(
        seen[0].uri.query(),
        Some("scopes=https%3A%2F%2Fa%2Eexample%2Fone%2Ctwo")
    );
}

#[tokio::test]
async fn configured_names_are_not_asked_for() {
    let server = TestServer::plain(|_| answer(500, &json!({}))).await;
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    let source = CredentialSource::Metadata {
        address: server.address,
    };
    let google = config::Google {
        project: Some("p".into()),
        account: None,
        ..google(source)
    };
    let credentials = Credentials::new(&google, upstream).expect("credentials");
    assert_eq!(credentials.project().await.expect("configured"), "p");
    let text = credentials
        .account()
        .await
        .expect_err("not a metadata server")
        .to_string();
    assert!(
        text.contains("not a metadata server") && text.contains("Set google.account"),
        "{text}"
    );
}

#[tokio::test]
async fn tokens_do_not_travel_in_clear() {
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    let source = CredentialSource::Metadata {
        address: ([10, 0, 0, 1], 80).into(),
    };
    let error = Credentials::new(&google(source), upstream).expect_err("refused");
    assert!(
        error.to_string().contains("http is for loopback"),
        "{error}"
    );
}
