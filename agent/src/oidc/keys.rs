//! An issuer's published keys (RFC 7517), and which of them may verify what. No IO.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

/// Issuers publish fewer than ten.
const MOST: usize = 100;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys(Vec<Jwk>);

impl Keys {
    /// Parses a JWK set. Keys of kinds unknown here are passed over; they could verify nothing.
    pub(super) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| "its answer is not a JWK set")?;
        if set.keys.len() > MOST {
            return Err("its JWK set holds more than 100 keys");
        }
        let keys = set.keys.into_iter().map(serde_json::from_value);
        Ok(Self(keys.filter_map(Result::ok).collect()))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The key `id` for `algorithm`. A token without a key id fits when there is just one key it can mean.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fitting = self.0.iter().filter(|key| fits(key, algorithm));
        let key = match id {
            Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id))?,
            None => {
                let only = fitting.next()?;
                fitting.next().is_none().then_some(only)?
            }
        };
        DecodingKey::from_jwk(key).ok()
    }
}

/// Whether the key's type, curve, declared algorithm and declared use all allow it to verify `algorithm`.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let declared = common.key_algorithm;
    let usage = common.public_key_use.as_ref();
    let operations = common.key_operations.as_deref();
    type_fits(&key.algorithm, algorithm)
        && declared.is_none_or(|declared| declared == KeyAlgorithm::from(algorithm))
        && usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

fn type_fits(key: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    match key {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(key) => matches!(
            (&key.curve, algorithm),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        AlgorithmParameters::OctetKeyPair(key) => {
            matches!(
                (&key.curve, algorithm),
                (EllipticCurve::Ed25519, Algorithm::EdDSA)
            )
        }
        // A symmetric key that anyone can read verifies nothing.
        _ => false,
    }
}
