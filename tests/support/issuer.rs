//! An OIDC issuer, as a CI system is one: a discovery document, a key set, tokens good and bad.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::stand_in::{Answer, Call, Service, now, serve_plain};

/// The audience that good tokens carry.
pub const AUDIENCE: &str = "holdpoint";
/// The subject of good tokens.
pub const SUBJECT: &str = "repo:example/shop:ref:refs/heads/main";
/// The groups of good tokens.
pub const GROUPS: [&str; 2] = ["agents", "shop"];
/// The claim those are in.
pub const GROUPS_CLAIM: &str = "groups";

static COUNT: AtomicU64 = AtomicU64::new(1);

/// A running issuer; it ends when dropped.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    keys: Arc<Mutex<Keys>>,
    _runtime: Runtime,
}

/// What can be wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `"alg": "none"` and no signature.
    AlgNone,
    /// HS256, keyed with the bytes of the public key.
    HmacWithPublicKey,
    /// Another service's audience.
    WrongAudience,
    /// No audience at all.
    NoAudience,
    /// Another issuer's name, our signature.
    WrongIssuer,
    /// Expired an hour ago.
    Expired,
    /// Without `exp`.
    NoExpiry,
    /// Valid in an hour.
    NotYetValid,
    /// A key id that the key set does not have.
    UnknownKid,
    /// The right key id, another key.
    AnotherKey,
    /// A good token with one character of its payload changed.
    Tampered,
    /// Not a token.
    Garbage,
    /// Nothing.
    Empty,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AlgNone,
        Self::HmacWithPublicKey,
        Self::WrongAudience,
        Self::NoAudience,
        Self::WrongIssuer,
        Self::Expired,
        Self::NoExpiry,
        Self::NotYetValid,
        Self::UnknownKid,
        Self::AnotherKey,
        Self::Tampered,
        Self::Garbage,
        Self::Empty,
    ];
}

impl Issuer {
    /// Starts one on a port of the kernel's choice.
    ///
    /// # Errors
    /// When there is no port, or no key can be made.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("issuer")
            .enable_all()
            .build()?;
        let any = (Ipv4Addr::LOCALHOST, 0);
        let listener = runtime
            .block_on(TcpListener::bind(any))
            .context("no port on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let keys = Arc::new(Mutex::new(Keys::new()?));
        let service = Arc::new(Documents {
            url: url.clone(),
            keys: keys.clone(),
        });
        runtime.spawn(serve_plain(listener, service));
        Ok(Self {
            url,
            keys,
            _runtime: runtime,
        })
    }

    /// The issuer's name, and where its documents are.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A good token, valid for five minutes.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn token(&self) -> String {
        self.token_for(SUBJECT)
    }

    /// A good token for `subject`.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn token_for(&self, subject: &str) -> String {
        let mut claims = self.claims();
        claims["sub"] = subject.into();
        self.keys().signing.sign(&claims)
    }

    /// A token with these claims besides the usual ones, or in place of them.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn token_with(&self, others: Value) -> String {
        let mut claims = self.claims();
        if let (Value::Object(claims), Value::Object(others)) = (&mut claims, others) {
            claims.extend(others);
        }
        self.keys().signing.sign(&claims)
    }

    /// A token with one thing wrong.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn flawed(&self, flaw: Flaw) -> String {
        let (mut claims, now) = (self.claims(), seconds());
        let keys = self.keys();
        let key = &keys.signing;
        match flaw {
            Flaw::AlgNone => {
                let header = json!({"alg": "none", "typ": "JWT", "kid": key.kid});
                return format!("{}.{}.", encoded(&header), encoded(&claims));
            }
            Flaw::HmacWithPublicKey => {
                let secret = EncodingKey::from_secret(key.public_pem.as_bytes());
                let header = key.header(Algorithm::HS256);
                return jsonwebtoken::encode(&header, &claims, &secret)
                    .expect("HMAC signs anything");
            }
            Flaw::WrongAudience => claims["aud"] = "another-service".into(),
            Flaw::NoAudience => remove(&mut claims, "aud"),
            Flaw::WrongIssuer => claims["iss"] = "https://issuer.example".into(),
            Flaw::Expired => claims["exp"] = (now - 3600).into(),
            Flaw::NoExpiry => remove(&mut claims, "exp"),
            Flaw::NotYetValid => claims["nbf"] = (now + 3600).into(),
            Flaw::UnknownKid | Flaw::AnotherKey => {
                let kid = if flaw == Flaw::UnknownKid {
                    "nobody-knows"
                } else {
                    &key.kid
                };
                return Key::new(kid).expect("a key can be made").sign(&claims);
            }
            Flaw::Tampered => {
                let token = key.sign(&claims);
                let (head, rest) = token.split_once('.').expect("a token has dots");
                let (_, signature) = rest.split_once('.').expect("a token has two dots");
                claims["sub"] = "repo:example/shop:ref:refs/heads/admin".into();
                return format!("{head}.{}.{signature}", encoded(&claims));
            }
            Flaw::Garbage => return "this-is-not-a-token".to_owned(),
            Flaw::Empty => return String::new(),
        }
        key.sign(&claims)
    }

    /// Replaces the signing key; the old one is gone from the key set.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let mut keys = self.keys();
        keys.generation += 1;
        keys.signing = Key::new(&format!("key-{}", keys.generation))?;
        Ok(())
    }

    fn claims(&self) -> Value {
        let now = seconds();
        json!({
            "iss": self.url, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "nbf": now - 5, "exp": now + 300,
            "jti": format!("run-{}", COUNT.fetch_add(1, Ordering::Relaxed)), GROUPS_CLAIM: GROUPS, "repository": "example/shop", "run_id": 42,
        })
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().expect("no panic while locked")
    }
}

#[derive(Debug)]
struct Keys {
    signing: Key,
    generation: u32,
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            signing: Key::new("key-1")?,
            generation: 1,
        })
    }
}

struct Key {
    kid: String,
    private: EncodingKey,
    public_pem: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(kid: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Ok(Self {
            kid: kid.to_owned(),
            private: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?,
            public_pem: pair.public_key_pem(),
        })
    }

    fn header(&self, algorithm: Algorithm) -> Header {
        let mut header = Header::new(algorithm);
        header.kid = Some(self.kid.clone());
        header
    }

    fn sign(&self, claims: &Value) -> String {
        let header = self.header(Algorithm::RS256);
        jsonwebtoken::encode(&header, claims, &self.private).expect("an RSA key signs RS256")
    }

    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.private, Algorithm::RS256);
        let mut jwk = serde_json::to_value(jwk.expect("an RSA key")).expect("plain data");
        jwk["kid"] = self.kid.as_str().into();
        jwk["use"] = "sig".into();
        jwk
    }
}

struct Documents {
    url: String,
    keys: Arc<Mutex<Keys>>,
}

impl Service for Documents {
    fn answer(&self, call: &Call) -> Answer {
        match call.segments.join("/").as_str() {
            ".well-known/openid-configuration" => Answer::json(&json!({
                "issuer": self.url,
                "jwks_uri": format!("{}/jwks", self.url),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })),
            "jwks" => {
                let keys = self.keys.lock().expect("no panic while locked");
                Answer::json(&json!({"keys": [keys.signing.jwk()]}))
            }
            _ => Answer::missing("the document"),
        }
    }
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn remove(claims: &mut Value, name: &str) {
    claims
        .as_object_mut()
        .expect("claims are an object")
        .remove(name);
}

fn seconds() -> u64 {
    now() / 1000
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, TokenData, Validation, jwk::JwkSet};

    use super::*;

    fn verify(issuer: &Issuer, token: &str) -> jsonwebtoken::errors::Result<TokenData<Value>> {
        let keys = json!({"keys": [issuer.keys().signing.jwk()]});
        let keys: JwkSet = serde_json::from_value(keys).expect("a key set");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[issuer.url()]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_nbf = true;
        let header = jsonwebtoken::decode_header(token)?;
        let kid = header.kid.unwrap_or_default();
        let key = keys
            .find(&kid)
            .ok_or(jsonwebtoken::errors::ErrorKind::InvalidToken)?;
        jsonwebtoken::decode(token, &DecodingKey::from_jwk(key)?, &validation)
    }

    #[test]
    fn good_tokens_verify_and_flawed_ones_do_not() {
        let issuer = Issuer::start().expect("an issuer");
        let claims = verify(&issuer, &issuer.token())
            .expect("a good token")
            .claims;
        assert_eq!(claims["sub"], SUBJECT);
        for flaw in Flaw::ALL {
            assert!(verify(&issuer, &issuer.flawed(flaw)).is_err(), "{flaw:?}");
        }
    }

    #[test]
    fn rotation_replaces_the_key() {
        let issuer = Issuer::start().expect("an issuer");
        let old = issuer.token();
        issuer.rotate().expect("another key");
        assert!(verify(&issuer, &old).is_err());
        assert!(verify(&issuer, &issuer.token()).is_ok());
    }
}
