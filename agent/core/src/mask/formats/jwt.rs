//! JSON web tokens.

use std::ops::Range;

use memchr::memmem;

use super::{super::find::Context, Seen, encoded, is_token, run_end};

/// The longest header, in bytes of base64url.
const MAX_HEADER: usize = 2048;
/// The longest part after the header.
const MAX_PART: usize = 256 << 10;

/// A JWS (RFC 7515: three parts) or JWE (RFC 7516: five) in compact form, whose header is a JSON object with `alg`.
pub(super) fn jwt(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let header_end = run_end(text, anchor.start, MAX_HEADER, is_token);
    if &text[anchor.clone()] != b"eyJ"
        || text.get(header_end) != Some(&b'.')
        || !is_header(&text[anchor.start..header_end])
    {
        return Seen::Nothing;
    }
    let mut end = header_end;
    let mut parts = 1;
    while parts < 5 && text.get(end) == Some(&b'.') {
        end = run_end(text, end + 1, MAX_PART, is_token);
        parts += 1;
    }
    // One that is cut off after its claims is no less of a secret.
    if parts < 3 && !(parts == 2 && end == text.len()) {
        return Seen::Nothing;
    }
    Seen::Hit(anchor.start..end)
}

fn is_header(part: &[u8]) -> bool {
    let decoded = encoded::decode(part);
    decoded.is_some_and(|header| {
        let header = header.trim_ascii();
        header.starts_with(b"{")
            && header.ends_with(b"}")
            && memmem::find(header, b"\"alg\"").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing},
    };
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    #[test]
    fn signed_and_encrypted_ones() {
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"x"}"#);
        finds(
            B::Jwt,
            &[
                &format!("{header}.{claims}.c2lnbmF0dXJl"),
                &format!("{header}.{claims}."),
                &format!("{header}.a.b.c.d"),
            ],
        );
        finds_nothing(
            B::Jwt,
            &[
                &header,
                &format!("{header}.{claims} and on"),
                &format!("{}.a.b", BASE64_URL_SAFE_NO_PAD.encode(r#"{"name":"x"}"#)),
                "eyJ.eyJ.eyJ",
                "eyJeyJeyJ",
                &format!("eyJ{}.a.b", "x".repeat(10_000)),
            ],
        );
    }
}
