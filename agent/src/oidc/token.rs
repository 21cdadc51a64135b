//! A token on its way from bytes to a principal: [`Unverified`], then [`Verified`], then accepted. No IO, no clock.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdpoint_core::identity::Principal;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    claims::{Claims, Rules},
    error::{TokenError, shown},
    used::Use,
};

/// CI tokens have 1-2 KiB; this is what HTTP servers take as one header.
const LONGEST: usize = 16 * 1024;

/// The parts of a header that matter (RFC 7515, section 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
}

/// A token that was taken apart. Nothing in it is to be believed.
pub(super) struct Unverified<'a> {
    header: Header,
    claims: Claims,
    /// `header.claims`, as they were sent: what is signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed("it is longer than 16 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed(
                "it does not have three parts separated by dots",
            ));
        };
        let message = &token[..header.len() + 1 + claims.len()];
        let header: Header = decode(header, "its header is not JSON in base64url with an alg")?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed(
                "its header asks for extensions (crit) that are not supported",
            ));
        }
        if !header.typ.as_deref().is_none_or(is_bearer_of_identity) {
            return Err(TokenError::Malformed(
                "its typ says that it is something else than an id token",
            ));
        }
        let claims = decode(
            claims,
            "its claims are not JSON in base64url with iss, sub, aud and exp",
        )?;
        Ok(Self {
            header,
            claims,
            message,
            signature,
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.claims.iss
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The header's algorithm, if it is one of `allowed`.
    pub(super) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, TokenError> {
        let named = self.header.alg.parse().ok();
        let algorithm = named.filter(|algorithm| allowed.contains(algorithm));
        algorithm.ok_or_else(|| TokenError::Algorithm {
            found: shown(&self.header.alg),
            allowed: allowed
                .iter()
                .map(|algorithm| format!("{algorithm:?}"))
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// Checks the signature.
    pub(super) fn verify(
        self,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Verified, TokenError> {
        let message = self.message.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, key, algorithm) {
            Ok(true) => Ok(Verified {
                content: Sha256::digest(message).into(),
                claims: self.claims,
            }),
            Ok(false) | Err(_) => Err(TokenError::Signature),
        }
    }
}

/// A token that its issuer signed. Whether it counts here and now is still open.
pub(super) struct Verified {
    /// The SHA-256 of what is signed. The signature is not in it: some algorithms have several for the same content.
    content: [u8; 32],
    claims: Claims,
}

impl Verified {
    pub(super) fn accept(
        self,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Principal, Use), TokenError> {
        let (issued, expires) = self.claims.issued_and_expires();
        let usage = Use {
            content: self.content,
            issued,
            expires,
        };
        Ok((self.claims.accept(rules, now)?, usage))
    }
}

/// Id tokens and access tokens (RFC 9068) say who acts. A logout token, say, has the same issuer and audience.
fn is_bearer_of_identity(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    let typ = typ.strip_prefix("application/").unwrap_or(&typ);
    matches!(typ, "jwt" | "at+jwt")
}

fn decode<T: for<'de> Deserialize<'de>>(
    part: &str,
    problem: &'static str,
) -> Result<T, TokenError> {
    let malformed = || TokenError::Malformed(problem);
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|_| malformed())
}
