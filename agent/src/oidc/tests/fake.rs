//! Keys, tokens and an issuer on loopback.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Response;
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};

use crate::{
    config,
    oidc::Verifier,
    upstream::testing::{Seen, TestServer, json as answer},
};

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const URL: &str = "https://issuer.example/tenant";
pub(super) const AUDIENCE: &str = "holdpoint";

/// A signing key and what the issuer publishes of it.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) private: EncodingKey,
    pub(super) public_pem: String,
    pub(super) jwk: Value,
}

impl Key {
    pub(super) fn new(id: &str, algorithm: Algorithm) -> Self {
        let rsa = algorithm.family() == jsonwebtoken::AlgorithmFamily::Rsa;
        let kind = match algorithm {
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            _ if rsa => &rcgen::PKCS_RSA_SHA256,
            _ => &rcgen::PKCS_ECDSA_P256_SHA256,
        };
        let pair = rcgen::KeyPair::generate_for(kind).expect("a key");
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::EdDSA => Ok(EncodingKey::from_ed_der(&ed25519_v1(pair.serialized_der()))),
            _ if rsa => EncodingKey::from_rsa_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let private = private.expect("a fitting key");
        let jwk = Jwk::from_encoding_key(&private, algorithm).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        Self {
            algorithm,
            private,
            public_pem: pair.public_key_pem(),
            jwk,
        }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"typ": "JWT", "kid": self.jwk["kid"]}), claims)
    }

    pub(super) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let mut header = header.clone();
        if header.get("alg").is_none() {
            header["alg"] = format!("{:?}", self.algorithm).into();
        }
        let message = message(&header, claims);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm)
                .expect("signed");
        format!("{message}.{signature}")
    }
}

/// The PKCS#8 version 1 form (RFC 8410, section 7) of a version 2 key, which jsonwebtoken does not take.
pub(super) fn ed25519_v1(version_2: &[u8]) -> Vec<u8> {
    let mut der = hex::decode("302e020100300506032b657004220420").expect("hex");
    der.extend(&version_2[16..48]);
    der
}

pub(super) fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// The claims of a good token, changed as `change` says; null takes a claim out.
pub(super) fn claims(change: Value) -> Value {
    let mut claims = json!({
        "iss": URL, "sub": "repo:acme/shop", "aud": AUDIENCE,
        "exp": NOW + 300, "nbf": NOW, "iat": NOW,
    });
    let all = claims.as_object_mut().expect("an object");
    for (name, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => all.remove(name),
            value => all.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// An issuer on loopback: what it publishes can be changed while it runs.
pub(super) struct FakeIssuer {
    pub(super) server: TestServer,
    pub(super) published: Arc<Mutex<Published>>,
}

pub(super) struct Published {
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
    pub(super) jwks: Bytes,
    pub(super) status: u16,
}

impl FakeIssuer {
    pub(super) async fn with(keys: &[&Key]) -> Self {
        let published = Arc::new(Mutex::new(Published {
            issuer: URL.to_owned(),
            jwks_uri: "https://keys.issuer.example/jwks".to_owned(),
            jwks: jwks(keys),
            status: 200,
        }));
        let state = Arc::clone(&published);
        let respond = move |seen: &Seen| -> Response<Bytes> {
            let state = state.lock().expect("no panic while locked");
            match seen.uri.path() {
                "/tenant/.well-known/openid-configuration" => answer(
                    state.status,
                    &json!({"issuer": state.issuer, "jwks_uri": state.jwks_uri}),
                ),
                "/jwks" => Response::new(state.jwks.clone()),
                _ => answer(404, &json!({})),
            }
        };
        let names = ["issuer.example", "keys.issuer.example"];
        let server = TestServer::tls(&names, &["h2", "http/1.1"], respond).await;
        Self { server, published }
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.lock().expect("no panic while locked"));
    }

    pub(super) fn fetches(&self) -> usize {
        self.server
            .seen()
            .iter()
            .filter(|seen| seen.uri.path() == "/jwks")
            .count()
    }

    pub(super) fn settings(&self) -> config::Issuer {
        config::Issuer {
            url: URL.to_owned(),
            audience: AUDIENCE.to_owned(),
            algorithms: vec!["RS256".into(), "ES256".into()],
            groups_claim: Some("groups".into()),
            ca_file: Some(self.server.ca_file().to_owned()),
            client_id: None,
            client_secret_file: None,
        }
    }

    pub(super) fn verifier(&self) -> Verifier {
        self.verifier_with(self.settings())
    }

    pub(super) fn verifier_with(&self, issuer: config::Issuer) -> Verifier {
        // The CA of the issuer is trusted by `ca_file` alone.
        let upstream = config::Upstream {
            ca_file: None,
            ..self.server.settings()
        };
        Verifier::new(&[issuer], &upstream).expect("a verifier")
    }
}

pub(super) fn jwks(keys: &[&Key]) -> Bytes {
    let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string().into()
}
