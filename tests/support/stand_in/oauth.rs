//! `oauth2.googleapis.com/token`: a signed assertion in, the real token out
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>).

use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ACCOUNT, Answer, Call, PROJECT, form};

const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Knows the service account's public key, and the token.
pub struct TokenEndpoint {
    key: DecodingKey,
    token: String,
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
}

impl TokenEndpoint {
    /// A new endpoint, and the service-account key file that goes with it.
    pub fn new() -> anyhow::Result<(Self, Value)> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let endpoint = Self {
            key: DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes())?,
            token: format!("ya29.real-{}", random_hex()?),
        };
        let file = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "stand-in",
            "private_key": pair.serialize_pem(),
            "client_email": ACCOUNT,
            "client_id": "100000000000000000000",
            "token_uri": AUDIENCE,
            "universe_domain": "googleapis.com",
        });
        Ok((endpoint, file))
    }

    /// The real access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Answers a token request.
    pub fn answer(&self, call: &Call) -> Answer {
        let form = form(&String::from_utf8_lossy(&call.body));
        let value = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|it| it.1.as_str())
        };
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[AUDIENCE]);
        let assertion = value("assertion").unwrap_or_default();
        let claims = jsonwebtoken::decode::<Assertion>(assertion, &self.key, &validation);
        let genuine = claims.is_ok_and(|it| it.claims.iss == ACCOUNT);
        if value("grant_type") != Some(JWT_BEARER) || !genuine {
            let error =
                json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
            return Answer::json(&error).with_status(StatusCode::BAD_REQUEST);
        }
        Answer::json(&json!({
            "access_token": self.token, "expires_in": 3599, "token_type": "Bearer",
        }))
    }
}

fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(hex::encode(bytes))
}
