//! Private keys in base64.

use std::ops::Range;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use memchr::memmem;
use zeroize::Zeroizing;

use super::{super::find::Context, Seen, run_end, run_start};

/// Either alphabet is read as this one.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A run of base64 in which a PEM block of a private key begins: the block alone, or a file around it.
///
/// The anchors are `-----BEGIN ` at the three places it may have in a group of three bytes. Certificates have it, too.
pub(super) fn key(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let start = run_start(text, anchor.start, usize::MAX, is_base64);
    let end = run_end(text, anchor.end, usize::MAX, is_base64);
    let end = run_end(text, end, 2, |byte| byte == b'=');
    if holds_private_key(&text[start..end]) {
        return Seen::Hit(start..end);
    }
    Seen::NothingTo(end)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Anything may stand directly before the run, so that it is read from each of four places.
fn holds_private_key(run: &[u8]) -> bool {
    let plain: Zeroizing<Vec<u8>> = Zeroizing::new(
        run.iter()
            .filter(|byte| **byte != b'=')
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect(),
    );
    (0..plain.len().min(4)).any(|skipped| {
        let run = &plain[skipped..];
        // One character that is left over is not base64, but may follow it.
        let run = &run[..run.len() - usize::from(run.len() % 4 == 1)];
        LENIENT
            .decode(run)
            .map(Zeroizing::new)
            .is_ok_and(|decoded| memmem::find(&decoded, b"PRIVATE KEY").is_some())
    })
}

/// Bytes of a base64 value in either alphabet, padded or not.
pub(in super::super) fn decode(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let plain: Zeroizing<Vec<u8>> = Zeroizing::new(
        value
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect(),
    );
    LENIENT.decode(plain.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing, found_in},
    };
    use base64::{
        Engine as _,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    #[test]
    fn keys_are_found_wherever_they_begin_in_what_is_encoded() {
        for before in [
            "",
            "a",
            "ab",
            "abc",
            r#"{"type":"service_account","private_key":""#,
        ] {
            let file = format!(
                "{before}-----BEGIN PRIVATE KEY-----\\nMIIEvQ\\n-----END PRIVATE KEY-----\\n\"}}"
            );
            let standard = BASE64_STANDARD.encode(&file);
            finds(B::EncodedKey, &[&standard]);
            let found = found_in(
                B::EncodedKey,
                &BASE64_URL_SAFE_NO_PAD.encode(&file),
                Default::default(),
            );
            assert_eq!(found, [BASE64_URL_SAFE_NO_PAD.encode(&file)]);
        }
    }

    #[test]
    fn certificates_stay() {
        let certificate = BASE64_STANDARD
            .encode("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        finds_nothing(
            B::EncodedKey,
            &[
                &certificate,
                &format!("{certificate} {certificate}"),
                "LS0tLS1CRUdJTi",
            ],
        );
    }
}
