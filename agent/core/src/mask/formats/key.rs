//! Private keys.

use std::ops::Range;

use memchr::memmem;

use super::{super::find::Context, Seen, run_end, run_start};

/// The longest label of a PEM block, in bytes.
const MAX_LABEL: usize = 64;

/// A PEM block (RFC 7468, and OpenSSH's and OpenPGP's) of a private key, up to the end of its last line. Line ends may be
/// anything: escaped as in JSON in text, twice escaped, or gone.
pub(super) fn pem(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let label = &text[anchor.end..text.len().min(anchor.end + MAX_LABEL)];
    let Some(label_end) = memmem::find(label, b"-----") else {
        return Seen::Nothing;
    };
    let label = label[..label_end].to_ascii_uppercase();
    if memmem::find(&label, b"PRIVATE KEY").is_none() {
        return Seen::Nothing;
    }
    let body = anchor.end + label_end;
    let Some(end) = memmem::find(&text[body..], END) else {
        return Seen::Open(anchor.start);
    };
    let end = body + end + END.len();
    Seen::Hit(anchor.start..end + end_line(&text[end..]))
}

/// What begins a PEM block's last line.
pub(in super::super) const END: &[u8] = b"-----END";

/// How far the rest of the last line goes.
pub(in super::super) fn end_line(after: &[u8]) -> usize {
    let rest = &after[..after.len().min(MAX_LABEL)];
    memmem::find(rest, b"-----").map_or(0, |at| at + b"-----".len())
}

/// An RSA key in PKCS #8 without its PEM lines: the object identifier of `rsaEncryption` at its fixed place.
pub(super) fn pkcs8_rsa(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    base64_around(text, &anchor, "BADANBgkqhkiG9w0BAQEFAASC")
}

/// An elliptic-curve key in PKCS #8: version 0, then `ecPublicKey`.
pub(super) fn pkcs8_ec(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    base64_around(text, &anchor, "AgEAMBMGByqGSM49AgEGC")
}

fn base64_around(text: &[u8], anchor: &Range<usize>, exactly: &str) -> Seen {
    if &text[anchor.clone()] != exactly.as_bytes() {
        return Seen::Nothing;
    }
    let start = run_start(text, anchor.start, 8, is_base64);
    let end = run_end(text, anchor.end, usize::MAX, in_lines);
    let is_end = |byte: &u8| is_base64(*byte) || *byte == b'=';
    let end = start
        + text[start..end]
            .iter()
            .rposition(is_end)
            .map_or(0, |last| last + 1);
    Seen::Hit(start..end)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Base64 with line ends in it, which may be escaped.
fn in_lines(byte: u8) -> bool {
    is_base64(byte) || matches!(byte, b'=' | b'\n' | b'\r' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing, found_in},
    };

    const BODY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ";

    #[test]
    fn blocks_of_any_kind_and_with_any_line_ends() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
            "ENCRYPTED PRIVATE KEY",
        ] {
            for line in ["\n", "\r\n", "\\n", "\\\\n", "", " "] {
                let block =
                    format!("-----BEGIN {label}-----{line}{BODY}{line}-----END {label}-----");
                finds(B::PrivateKey, &[&block]);
            }
        }
    }

    #[test]
    fn a_block_without_an_end_is_all_of_the_rest() {
        let text = format!("a -----BEGIN PRIVATE KEY-----\n{BODY}\nand on");
        assert_eq!(
            found_in(B::PrivateKey, &text, Default::default()),
            [&text[2..]]
        );
    }

    #[test]
    fn two_blocks_are_two() {
        let block = format!("-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----");
        let text = format!("{block} and {block}");
        assert_eq!(
            found_in(B::PrivateKey, &text, Default::default()),
            [block.clone(), block]
        );
    }

    #[test]
    fn the_bytes_of_a_key_are_known_without_its_lines() {
        finds(
            B::PrivateKey,
            &[BODY, "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"],
        );
    }

    #[test]
    fn what_is_public_stays() {
        finds_nothing(
            B::PrivateKey,
            &[
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
                "-----BEGIN of something",
                "-----BEGIN",
            ],
        );
    }
}
