//! The CA bundle once more, as a truststore that every Java reads.
//!
//! It is a JKS file (`sun.security.provider.JavaKeyStore` of OpenJDK has the format): a JDK's default truststore is opened without a
//! password, which PKCS#12 files with one cannot be, and those without one only since 8u301. Written only, in 30 lines; the crates
//! there are bring PKCS#12 and its ciphers along.

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use sha1::{Digest as _, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// An entry that is a trusted certificate.
const CERTIFICATE: u32 = 2;
/// What every JDK's truststore has; no secret, and not asked for.
const PASSWORD: &str = "changeit";
/// Goes into the checksum after the password.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// A truststore of certificates.
///
/// # Errors
/// When there is more than the format has numbers for.
pub fn from(certificates: &[CertificateDer<'_>]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    for word in [MAGIC, VERSION, u32::try_from(certificates.len())?] {
        whole.extend(word.to_be_bytes());
    }
    for (index, certificate) in certificates.iter().enumerate() {
        whole.extend(CERTIFICATE.to_be_bytes());
        text(&mut whole, &format!("holdpoint-{index}"))?;
        // When it was added, in milliseconds.
        whole.extend(0_u64.to_be_bytes());
        text(&mut whole, "X.509")?;
        whole.extend(u32::try_from(certificate.len())?.to_be_bytes());
        whole.extend_from_slice(certificate);
    }
    let mut checksum = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        checksum.update(unit.to_be_bytes());
    }
    checksum.update(WHITENER);
    checksum.update(&whole);
    whole.extend(checksum.finalize());
    Ok(whole)
}

/// As `DataOutputStream.writeUTF` has it, of ASCII.
fn text(whole: &mut Vec<u8>, ascii: &str) -> anyhow::Result<()> {
    let length = u16::try_from(ascii.len()).context("a long name")?;
    whole.extend(length.to_be_bytes());
    whole.extend(ascii.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That a JDK takes it is for `tests/tools.rs` to show.
    #[test]
    fn the_format_is_javas() {
        let certificate = CertificateDer::from(vec![1, 2, 3]);
        let whole = from(&[certificate]).expect("fits");
        let (content, checksum) = whole.split_at(whole.len() - 20);
        let expected = [
            b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x0bholdpoint-0".as_slice(),
            &[0; 8],
            b"\0\x05X.509\0\0\0\x03\x01\x02\x03",
        ];
        assert_eq!(content, expected.concat());
        assert_ne!(checksum, [0; 20]);
    }
}
