mod fake;
mod sign_in;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::json;

use self::fake::*;
use super::*;

async fn verify(verifier: &Verifier, token: &str) -> Result<Principal, TokenError> {
    let outcome = verifier
        .verify_at(token, Timestamp::from_second(NOW).expect("a time"))
        .await;
    if let Err(error) = &outcome {
        let text = format!("{error} {error:?}");
        let parts = token.split('.').filter(|part| part.len() > 20);
        assert!(
            parts.into_iter().all(|part| !text.contains(part)),
            "the token in {text}"
        );
    }
    outcome
}

async fn refusal(verifier: &Verifier, token: &str) -> String {
    verify(verifier, token)
        .await
        .expect_err("refused")
        .to_string()
}

#[tokio::test]
async fn a_good_token_names_its_principal() {
    let key = Key::new("a", Algorithm::RS256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let token = key.sign(&claims(json!({
        "aud": ["other", AUDIENCE], "groups": ["dev", "ops"],
        "run_id": 42, "protected": true, "ref": "main", "nested": {"a": 1}, "list": [1],
    })));
    let verifier = issuer.verifier();
    for _ in 0..3 {
        let principal = verify(&verifier, &token).await.expect("valid");
        assert_eq!(principal.name(), format!("{URL}#repo:acme/shop"));
        assert_eq!(principal.groups, ["dev", "ops"].map(str::to_owned).into());
        let claims = [
            ("nested.a", "1"),
            ("protected", "true"),
            ("ref", "main"),
            ("run_id", "42"),
        ];
        assert_eq!(
            principal.claims,
            claims.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
    }
    assert_eq!(issuer.fetches(), 1, "keys are kept");
}

#[tokio::test]
async fn every_allowed_algorithm_verifies() {
    let named = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"];
    let keys: Vec<_> = named
        .iter()
        .map(|name| Key::new(name, name.parse().expect("an algorithm")))
        .collect();
    let issuer = FakeIssuer::with(&keys.iter().collect::<Vec<_>>()).await;
    let verifier = issuer.verifier_with(config::Issuer {
        algorithms: named.map(str::to_owned).into(),
        ..issuer.settings()
    });
    for key in &keys {
        let token = key.sign(&claims(json!({})));
        verify(&verifier, &token).await.expect("valid");
        // Without a key id there is but one key for each algorithm.
        let nameless = key.sign_as(&json!({}), &claims(json!({})));
        verify(&verifier, &nameless).await.expect("valid");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let key = Key::new("a", Algorithm::RS256);
    let other = Key::new("a", Algorithm::RS256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = issuer.verifier();
    let good = claims(json!({}));

    let none = format!("{}.", message(&json!({"alg": "none", "kid": "a"}), &good));
    assert!(
        refusal(&verifier, &none)
            .await
            .contains("signed by \"none\"")
    );

    // The classic: the public key, which everybody has, as an HMAC secret.
    let hmac_message = message(&json!({"alg": "HS256", "kid": "a"}), &good);
    for secret in [
        key.public_pem.as_bytes(),
        key.jwk["n"].as_str().expect("n").as_bytes(),
    ] {
        let secret = EncodingKey::from_secret(secret);
        let signature =
            jsonwebtoken::crypto::sign(hmac_message.as_bytes(), &secret, Algorithm::HS256)
                .expect("signed");
        let token = format!("{hmac_message}.{signature}");
        assert!(
            refusal(&verifier, &token)
                .await
                .contains("allowed for its issuer: RS256, ES256")
        );
    }

    let signed_by_other = other.sign(&good);
    assert!(
        refusal(&verifier, &signed_by_other)
            .await
            .contains("signature is wrong")
    );

    let token = key.sign(&good);
    let (_, signature) = token.rsplit_once('.').expect("parts");
    let altered = message(
        &json!({"alg": "RS256", "kid": "a"}),
        &claims(json!({"sub": "root"})),
    );
    assert!(
        refusal(&verifier, &format!("{altered}.{signature}"))
            .await
            .contains("signature")
    );
    let unsigned = format!("{}.", token.rsplit_once('.').expect("parts").0);
    assert!(refusal(&verifier, &unsigned).await.contains("signature"));

    let unlisted = Key::new("a", Algorithm::PS256).sign(&good);
    assert!(
        refusal(&verifier, &unlisted)
            .await
            .contains("signed by \"PS256\"")
    );
}

#[tokio::test]
async fn tokens_for_others_and_for_other_times_are_refused() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = issuer.verifier();
    for (change, why) in [
        (
            json!({"aud": "somebody"}),
            "request it with the audience \"holdpoint\"",
        ),
        (json!({"aud": []}), "audience"),
        (json!({"aud": null}), "aud"),
        (json!({"aud": "holdpoint2"}), "audience"),
        (
            json!({"iss": "https://issuer.example/tenant/"}),
            "is not configured",
        ),
        (
            json!({"iss": "https://evil.example"}),
            "\"https://evil.example\" is not configured",
        ),
        (json!({"exp": NOW - 30}), "expired 30 s ago"),
        (json!({"exp": null}), "exp"),
        (json!({"exp": "never"}), "exp"),
        (json!({"exp": 1e300}), "exp"),
        (json!({"nbf": NOW + 31}), "valid only in 31 s"),
        (json!({"iat": NOW + 3600}), "valid only in 3600 s"),
        (json!({"sub": null}), "sub"),
        (json!({"sub": ""}), "\"sub\" is empty"),
        (
            json!({"sub": "a\u{1b}[2J"}),
            "\"sub\" contains control characters",
        ),
        (json!({"groups": 7}), "\"groups\" is neither"),
        (json!({"groups": ["a", 7]}), "\"groups\" is neither"),
        (json!({"groups": ["a\nb"]}), "\"groups\" contains control"),
    ] {
        let text = refusal(&verifier, &key.sign(&claims(change.clone()))).await;
        assert!(text.contains(why), "{change}: {text}");
    }
    for change in [
        json!({"exp": NOW - 29}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 30, "iat": NOW + 30}),
        json!({"nbf": null, "iat": null}),
        json!({"groups": null}),
        json!({"groups": "one"}),
    ] {
        let outcome = verify(&verifier, &key.sign(&claims(change.clone()))).await;
        assert!(outcome.is_ok(), "{change}: {outcome:?}");
    }
}

#[tokio::test]
async fn odd_headers_are_refused() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = issuer.verifier();
    for (header, why) in [
        (json!({"kid": "a", "crit": ["b64"], "b64": false}), "crit"),
        (json!({"kid": "a", "typ": "logout+jwt"}), "typ"),
        (
            json!({"kid": "a", "jwk": key.jwk, "alg": "RS256"}),
            "publishes no RS256 key \"a\"",
        ),
        (json!({"kid": 7}), "header"),
    ] {
        let text = refusal(&verifier, &key.sign_as(&header, &claims(json!({})))).await;
        assert!(text.contains(why), "{header}: {text}");
    }
    // A key that travels with the token is not looked at.
    let mine = Key::new("mine", Algorithm::ES256);
    let header = json!({"kid": "mine", "jwk": mine.jwk, "jku": "https://evil.example/jwks"});
    let text = refusal(&verifier, &mine.sign_as(&header, &claims(json!({})))).await;
    assert!(text.contains("publishes no ES256 key \"mine\""), "{text}");
}

#[tokio::test]
async fn claims_that_come_to_one_name_are_refused() {
    let key = Key::new("a", Algorithm::RS256);
    let issuer = FakeIssuer::with(&[&key]).await;
    for change in [
        json!({"google.zone": "a", "google": {"zone": "b"}}),
        json!({"a": {"b.c": 1, "b": {"c": 2}}}),
    ] {
        let text = refusal(&issuer.verifier(), &key.sign(&claims(change))).await;
        assert!(text.contains("is there twice"), "{text}");
    }
}

#[tokio::test]
async fn a_token_is_used_up_by_its_content() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = issuer.verifier();
    let now = Timestamp::now().as_second();
    let claims = claims(json!({"iat": now, "nbf": now, "exp": now + 300}));
    let (first, again) = (key.sign(&claims), key.sign(&claims));
    assert_ne!(first, again, "ES256 has many signatures of one content");
    verifier.verify_once(&first).await.expect("not used yet");
    for token in [&first, &again] {
        let error = verifier.verify_once(token).await.expect_err("used");
        assert!(error.to_string().contains("used already"), "{error}");
    }
    verifier.verify(&first).await.expect("still valid");
}

#[tokio::test]
async fn claims_that_are_there_twice_are_refused() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let twice = claims(json!({}))
        .to_string()
        .replacen('{', r#"{"sub":"root","#, 1);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"a"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(twice));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.private, Algorithm::ES256)
        .expect("signed");
    let text = refusal(&issuer.verifier(), &format!("{message}.{signature}")).await;
    assert!(text.contains("claims are not"), "{text}");
}

#[tokio::test]
async fn groups_may_be_nested_and_names_may_have_dots() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let token = key.sign(&claims(json!({
        "realm_access": {"roles": ["dev"]}, "https://acme.example/groups": ["ops"],
    })));
    for (claim, group) in [
        ("realm_access.roles", "dev"),
        ("https://acme.example/groups", "ops"),
    ] {
        let settings = config::Issuer {
            groups_claim: Some(claim.into()),
            ..issuer.settings()
        };
        let principal = verify(&issuer.verifier_with(settings), &token)
            .await
            .expect("valid");
        assert_eq!(principal.groups, [group.to_owned()].into());
    }
}

#[tokio::test]
async fn rotated_keys_are_fetched_at_once() {
    let (old, new) = (
        Key::new("old", Algorithm::ES256),
        Key::new("new", Algorithm::ES256),
    );
    let issuer = FakeIssuer::with(&[&old]).await;
    let verifier = issuer.verifier();
    let (by_old, by_new) = (old.sign(&claims(json!({}))), new.sign(&claims(json!({}))));
    verify(&verifier, &by_old).await.expect("valid");

    issuer.publish(|published| published.jwks = jwks(&[&new]));
    verify(&verifier, &by_new).await.expect("valid");
    assert_eq!(issuer.fetches(), 2);
    let text = refusal(&verifier, &by_old).await;
    assert!(
        text.contains("publishes no ES256 key \"old\""),
        "withdrawn: {text}"
    );
}

#[tokio::test]
async fn a_storm_of_tokens_fetches_four_times_in_two_minutes() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = Arc::new(issuer.verifier());
    let mut storm = tokio::task::JoinSet::new();
    for number in 0..50 {
        let verifier = Arc::clone(&verifier);
        let kid = if number % 2 == 0 { "a" } else { "unknown" };
        let token = key.sign_as(&json!({"kid": kid}), &claims(json!({})));
        storm.spawn(async move { verify(&verifier, &token).await.is_ok() });
    }
    let valid = storm
        .join_all()
        .await
        .into_iter()
        .filter(|valid| *valid)
        .count();
    assert_eq!((valid, issuer.fetches()), (25, 4));

    verifier.issuers[0].elapse(Duration::from_secs(120)).await;
    let stranger = key.sign_as(&json!({"kid": "unknown"}), &claims(json!({})));
    let _ = refusal(&verifier, &stranger).await;
    assert_eq!(issuer.fetches(), 5);
}

#[tokio::test]
async fn an_issuer_that_misbehaves_verifies_nothing() {
    let key = Key::new("a", Algorithm::ES256);
    let token = key.sign(&claims(json!({})));
    let padded = json!({"keys": [key.jwk], "padding": "x".repeat(1024 * 1024)}).to_string();
    let crowded = json!({ "keys": vec![&key.jwk; 101] }).to_string();
    let oct = json!({"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}).to_string();
    let encryption = {
        let mut jwk = key.jwk.clone();
        jwk["use"] = "enc".into();
        json!({ "keys": [jwk] }).to_string()
    };
    type Change = Box<dyn FnOnce(&mut Published)>;
    let changes: Vec<(Change, &str)> = vec![
        (
            Box::new(|p| p.issuer = "https://issuer.example".into()),
            "is of the issuer",
        ),
        (
            Box::new(|p| p.jwks_uri = "http://keys.issuer.example/jwks".into()),
            "is not https",
        ),
        (
            Box::new(|p| p.jwks_uri = "https://keys.issuer.example/else".into()),
            "answered 404",
        ),
        (Box::new(|p| p.status = 302), "answered 302"),
        (Box::new(|p| p.jwks = "[]".into()), "not a JWK set"),
        (
            Box::new(move |p| p.jwks = padded.into()),
            "longer than 1048576 bytes",
        ),
        (
            Box::new(move |p| p.jwks = crowded.into()),
            "more than 100 keys",
        ),
        (
            Box::new(move |p| p.jwks = oct.into()),
            "publishes no ES256 key",
        ),
        (
            Box::new(move |p| p.jwks = encryption.into()),
            "publishes no ES256 key",
        ),
    ];
    for (change, why) in changes {
        let issuer = FakeIssuer::with(&[&key]).await;
        issuer.publish(change);
        let text = refusal(&issuer.verifier(), &token).await;
        assert!(text.contains(why), "{why}: {text}");
    }
}

#[tokio::test]
async fn keys_outlive_a_short_absence_of_the_issuer() {
    let key = Key::new("a", Algorithm::ES256);
    let token = key.sign(&claims(json!({})));
    let issuer = FakeIssuer::with(&[&key]).await;
    let verifier = issuer.verifier();
    verify(&verifier, &token).await.expect("valid");
    issuer.publish(|published| published.status = 503);
    verifier.issuers[0]
        .elapse(Duration::from_secs(20 * 60))
        .await;
    verify(&verifier, &token).await.expect("still valid");
    verifier.issuers[0]
        .elapse(Duration::from_secs(41 * 60))
        .await;
    let text = refusal(&verifier, &token).await;
    assert!(
        text.contains("answered 503") && text.contains(URL),
        "{text}"
    );
    issuer.publish(|published| published.status = 200);
    verifier.issuers[0].elapse(Duration::from_secs(31)).await;
    verify(&verifier, &token).await.expect("valid again");
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_is_named() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = FakeIssuer::with(&[&key]).await;
    // Trusted by nobody: the system's roots do not know this CA.
    let verifier = issuer.verifier_with(config::Issuer {
        ca_file: None,
        ..issuer.settings()
    });
    let text = refusal(&verifier, &key.sign(&claims(json!({})))).await;
    assert!(text.contains(URL) && text.contains("ca_file"), "{text}");
}

#[tokio::test]
async fn the_configuration_is_checked() {
    let issuer = FakeIssuer::with(&[]).await;
    let refused = |issuers: &[config::Issuer]| {
        let error = Verifier::new(issuers, &config::Upstream::default()).expect_err("refused");
        format!("{error:#}")
    };
    let good = issuer.settings();
    assert!(refused(&[good.clone(), good.clone()]).contains("twice"));
    assert!(
        refused(&[config::Issuer {
            audience: String::new(),
            ..good.clone()
        }])
        .contains("audience")
    );
    for name in ["HS256", "none"] {
        let settings = config::Issuer {
            algorithms: vec![name.into()],
            ..good.clone()
        };
        let text = refused(&[settings]);
        assert!(text.contains(name) && text.contains(URL), "{text}");
    }
    assert!(
        refused(&[config::Issuer {
            algorithms: vec![],
            ..good.clone()
        }])
        .contains("empty")
    );
    let clear = config::Issuer {
        url: "http://issuer.example".into(),
        ..good
    };
    assert!(refused(&[clear]).contains("https"));
}

#[test]
fn what_is_no_token_is_refused() {
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        "a.b.c.d.e",
        "e30.e30.e30",
    ] {
        assert!(Unverified::parse(text).is_err(), "{text:?}");
    }
    let long = format!("{}.e30.e30", "a".repeat(16 * 1024));
    assert!(Unverified::parse(&long).is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_without_panic(text in "\\PC{0,200}") {
        let _ = Unverified::parse(&text);
    }

    #[test]
    fn any_json_is_parsed_without_panic(header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let _ = Unverified::parse(&format!("{}.{}.x", encode(header), encode(claims)));
    }

    #[test]
    fn any_key_set_is_parsed_without_panic(json in "\\PC{0,200}", kid in "\\PC{0,5}") {
        if let Ok(keys) = keys::Keys::parse(json.as_bytes()) {
            let _ = keys.find(Some(&kid), Algorithm::RS256);
        }
    }
}
