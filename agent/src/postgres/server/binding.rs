//! Channel binding `tls-server-end-point` (RFC 5929, section 4): the hash of the server's certificate.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    signature_algorithm::SignatureAlgorithm,
};

/// `None` where the signature of the certificate has no hash of its own (Ed25519), or an unknown one: no binding is defined then.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

/// "If the certificate's signatureAlgorithm uses a single hash function, and that hash function is either MD5 or SHA-1, then use SHA-256"
fn hash_of(certificate: &X509Certificate<'_>) -> Option<&'static Algorithm> {
    let identifier = &certificate.signature_algorithm;
    let oid = match SignatureAlgorithm::try_from(identifier) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => {
            parameters.hash_algorithm_oid().to_id_string()
        }
        _ => identifier.algorithm.to_id_string(),
    };
    match oid.as_str() {
        // md5WithRSAEncryption, sha1WithRSAEncryption, sha256WithRSAEncryption, ecdsa-with-SHA1, ecdsa-with-SHA256, sha1, sha256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "1.3.14.3.2.26"
        | "2.16.840.1.101.3.4.2.1" => Some(&SHA256),
        // sha384WithRSAEncryption, ecdsa-with-SHA384, sha384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => Some(&SHA384),
        // sha512WithRSAEncryption, ecdsa-with-SHA512, sha512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => Some(&SHA512),
        _ => None,
    }
}
