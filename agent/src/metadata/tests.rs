use proptest::prelude::*;

use super::*;

const V1: &str = "/computeMetadata/v1";
const ACCOUNT: &str = "agent@lab-project.iam.gserviceaccount.com";

fn view() -> MetadataView {
    MetadataView {
        project: "lab-project".into(),
        numeric_project: Some(123_456_789_012),
        account: ACCOUNT.into(),
        scopes: vec![
            "https://www.googleapis.com/auth/cloud-platform".into(),
            "openid".into(),
        ],
        zone: Some("us-central1-a".into()),
        universe_domain: "googleapis.com".into(),
        instance_name: "s-1".into(),
        instance_id: 42,
        placeholder: "ya29.holdpoint-x".into(),
    }
}

fn flavored() -> HeaderMap {
    let flavor = (
        http::HeaderName::from_static(FLAVOR),
        HeaderValue::from_static("Google"),
    );
    HeaderMap::from_iter([flavor])
}

fn ask(target: &str, headers: &HeaderMap) -> Response<Bytes> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    answer(&view(), &Method::GET, path, query, headers)
}

fn get(target: &str) -> Response<Bytes> {
    ask(&format!("{V1}{target}"), &flavored())
}

fn text_of(target: &str) -> String {
    let answer = get(target);
    assert_eq!(answer.status(), StatusCode::OK, "{target}");
    assert_eq!(
        answer.headers()[CONTENT_TYPE],
        "application/text",
        "{target}"
    );
    String::from_utf8(answer.body().to_vec()).expect("text")
}

fn json_of(target: &str) -> Value {
    let answer = get(target);
    assert_eq!(answer.status(), StatusCode::OK, "{target}");
    assert_eq!(
        answer.headers()[CONTENT_TYPE],
        "application/json",
        "{target}"
    );
    serde_json::from_slice(answer.body()).expect("JSON")
}

#[test]
fn values_are_as_on_a_vm() {
    for (target, value) in [
        ("/project/project-id", "lab-project"),
        ("/project/numeric-project-id", "123456789012"),
        ("/instance/id", "42"),
        ("/instance/name", "s-1"),
        (
            "/instance/hostname",
            "s-1.us-central1-a.c.lab-project.internal",
        ),
        (
            "/instance/zone",
            "projects/123456789012/zones/us-central1-a",
        ),
        ("/universe/universe-domain", "googleapis.com"),
        ("/universe/universe_domain", "googleapis.com"),
        ("/instance/service-accounts/default/email", ACCOUNT),
        ("/instance/service-accounts/default/aliases", "default\n"),
        (
            "/instance/service-accounts/default/scopes",
            "https://www.googleapis.com/auth/cloud-platform\nopenid\n",
        ),
        ("/instance/attributes/", ""),
        ("/", "instance/\nproject/\nuniverse/\n"),
        (
            "/instance/service-accounts/",
            "default/\nagent@lab-project.iam.gserviceaccount.com/\n",
        ),
        (
            "/instance/service-accounts/default/",
            "aliases\nemail\nidentity\nscopes\ntoken\n",
        ),
    ] {
        assert_eq!(text_of(target), value, "{target}");
    }
    assert_eq!(
        json_of("/project/numeric-project-id?alt=json"),
        123_456_789_012_u64
    );
}

#[test]
fn the_account_goes_by_its_email_too() {
    let escaped = ACCOUNT.replace('@', "%40");
    for name in ["default", ACCOUNT, &escaped] {
        assert_eq!(
            text_of(&format!("/instance/service-accounts/{name}/email")),
            ACCOUNT
        );
    }
    let other = get("/instance/service-accounts/other@example.com/token");
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
}

#[test]
fn tokens_are_placeholders_whatever_the_scopes() {
    for query in [
        "",
        "?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform",
    ] {
        let token = json_of(&format!("/instance/service-accounts/default/token{query}"));
        let expected =
            json!({"access_token": "ya29.holdpoint-x", "expires_in": 3599, "token_type": "Bearer"});
        assert_eq!(token, expected);
    }
    let session = SessionId::random();
    let (one, two) = (placeholder(&session), placeholder(&session));
    assert!(one.starts_with("ya29.holdpoint-") && one != two);
}

#[test]
fn recursion_is_json_in_camel_case_without_tokens() {
    let account = json_of("/instance/service-accounts/default/?recursive=true");
    let scopes = ["https://www.googleapis.com/auth/cloud-platform", "openid"];
    let expected = json!({"aliases": ["default"], "email": ACCOUNT, "scopes": scopes});
    assert_eq!(account, expected);
    let instance = json_of("/instance/?recursive=true&alt=json");
    assert_eq!(instance["serviceAccounts"][ACCOUNT], expected);
    assert_eq!(
        (&instance["id"], &instance["attributes"]),
        (&json!(42), &json!({}))
    );
    let all = json_of("/?recursive=true");
    assert_eq!(all["project"]["numericProjectId"], 123_456_789_012_u64);
    assert!(!all.to_string().contains("ya29"));
}

#[test]
fn identity_tokens_are_refused_with_a_reason() {
    let answer = get("/instance/service-accounts/default/identity?audience=x&format=standard");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let why = std::str::from_utf8(answer.body()).expect("text");
    assert!(why.contains("no identity tokens"), "{why}");
}

#[test]
fn directories_without_slash_redirect_and_values_with_one_do_not_exist() {
    for (target, location) in [
        ("", "/computeMetadata/v1/"),
        ("/instance", "/computeMetadata/v1/instance/"),
        (
            "/instance/service-accounts/default?recursive=true",
            "/computeMetadata/v1/instance/service-accounts/default/?recursive=true",
        ),
    ] {
        let answer = get(target);
        assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY, "{target}");
        assert_eq!(answer.headers()[LOCATION], location);
    }
    for target in [
        "/project/project-id/",
        "/instance//zone",
        "//",
        "x/",
        "/nothing",
        "/instance/..",
        "/instance%2Fzone",
    ] {
        assert_eq!(get(target).status(), StatusCode::NOT_FOUND, "{target}");
    }
}

#[test]
fn the_header_is_required_but_for_probes() {
    let none = HeaderMap::new();
    for probe in ["/", "", "/computeMetadata/"] {
        let answer = ask(probe, &none);
        assert_eq!(answer.status(), StatusCode::OK, "{probe}");
        assert_eq!(answer.headers()[FLAVOR], "Google");
    }
    let target = format!("{V1}/instance/service-accounts/default/token");
    assert_eq!(ask(&target, &none).status(), StatusCode::FORBIDDEN);
    let mut forwarded = flavored();
    forwarded.insert(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
    assert_eq!(ask(&target, &forwarded).status(), StatusCode::FORBIDDEN);
    assert_eq!(ask("/", &forwarded).status(), StatusCode::FORBIDDEN);
    let old = ask("/computeMetadata/v1beta1/instance/zone", &none);
    assert_eq!(old.status(), StatusCode::NOT_FOUND);
}

#[test]
fn other_methods_and_waiting_are_refused() {
    let path = format!("{V1}/instance/zone");
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = answer(&view(), &method, &path, None, &flavored());
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    let head = answer(&view(), &Method::HEAD, &path, None, &flavored());
    assert!(head.body().is_empty() && head.status() == StatusCode::OK);
    assert_eq!(head.headers()[CONTENT_LENGTH], "41");
    let wait = get("/instance/zone?wait_for_change=true&timeout_sec=360");
    assert_eq!(wait.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn what_is_not_known_is_not_there_but_for_the_project_number() {
    let view = MetadataView {
        numeric_project: None,
        zone: None,
        ..view()
    };
    let ask = |path: &str| {
        answer(
            &view,
            &Method::GET,
            &format!("{V1}{path}"),
            None,
            &flavored(),
        )
    };
    assert_eq!(ask("/instance/zone").status(), StatusCode::NOT_FOUND);
    assert_eq!(
        ask("/instance/hostname").body(),
        "s-1.c.lab-project.internal"
    );
    // Without digits here gcloud believes that it is not on Google Cloud.
    assert_eq!(ask("/project/numeric-project-id").body(), "0");
}

/// What gcloud, gsutil, bq, terraform and the SDKs were seen to ask for.
#[test]
fn the_corpus_is_answered() {
    for target in [
        "/instance/service-accounts/default/email",
        "/universe/universe-domain",
        "/project/project-id",
        "/project/numeric-project-id",
        "/instance/service-accounts/",
        "/instance/service-accounts/default/scopes",
        "/instance/service-accounts/default/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fiam",
        "/instance/service-accounts/default/?recursive=true",
        "/instance/service-accounts/agent@lab-project.iam.gserviceaccount.com/token?scopes=openid%2Cx",
        "/instance/",
    ] {
        assert_eq!(get(target).status(), StatusCode::OK, "{target}");
    }
    for target in ["/instance/service-accounts", "/instance"] {
        assert_eq!(
            get(target).status(),
            StatusCode::MOVED_PERMANENTLY,
            "{target}"
        );
    }
}

#[test]
fn hosts_and_addresses() {
    for host in [
        "metadata.google.internal",
        "metadata.google.internal.",
        "Metadata.Google.Internal",
        "metadata",
        "169.254.169.254",
        "fd20:ce::254",
        "[fd20:ce::254]",
        "[fd20:00ce:0::254]",
    ] {
        assert!(is_metadata_host(host), "{host}");
    }
    for host in [
        "",
        ".",
        "x.metadata.google.internal",
        "169.254.169.253",
        "metadata.google.internal.evil.example",
    ] {
        assert!(!is_metadata_host(host), "{host}");
    }
    assert!(is_metadata_address(
        "::ffff:169.254.169.254".parse().expect("an address")
    ));
}

proptest! {
    #[test]
    fn any_request_is_answered_as_a_metadata_server(
        path in "/?(computeMetadata)?(/v1)?\\PC{0,60}", query in "\\PC{0,40}", flavor: bool,
    ) {
        let headers = if flavor { flavored() } else { HeaderMap::new() };
        let answer = answer(&view(), &Method::GET, &path, Some(&query), &headers);
        prop_assert_eq!(&answer.headers()[FLAVOR], "Google");
        prop_assert!(flavor || !answer.body().windows(4).any(|part| part == b"ya29"));
    }
}
