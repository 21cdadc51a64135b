//! An OIDC issuer of the doctor's own, with a key made on the spot: it opens sessions on the stage and nowhere else.

use anyhow::Context as _;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::places::ISSUER_PORT;

/// The audience of its tokens.
pub const AUDIENCE: &str = "holdpoint-doctor";
const KEY_ID: &str = "doctor";
/// How long a token is good for, in seconds.
const LIFE: i64 = 600;

/// The issuer's name, and where its documents are.
pub fn url() -> String {
    format!("http://127.0.0.1:{ISSUER_PORT}")
}

/// A signing key, and what the issuer publishes.
pub struct Issuer {
    key: EncodingKey,
    keys: Value,
}

impl Issuer {
    /// One with a new key.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new() -> anyhow::Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .context("cannot make a key")?;
        let pem = Zeroizing::new(pair.serialize_pem());
        let key = EncodingKey::from_ec_pem(pem.as_bytes())?;
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256)?)?;
        jwk["kid"] = KEY_ID.into();
        let keys = json!({ "keys": [jwk] });
        Ok(Self { key, keys })
    }

    /// A token, good for ten minutes.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self) -> anyhow::Result<String> {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": url(), "sub": "doctor", "aud": AUDIENCE,
            "iat": now, "nbf": now, "exp": now + LIFE,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KEY_ID.into());
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }

    /// What a request for one of its documents is answered.
    pub fn document(&self, request: &str) -> String {
        if request.starts_with("GET /keys ") {
            return self.keys.to_string();
        }
        let url = url();
        json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string()
    }
}
