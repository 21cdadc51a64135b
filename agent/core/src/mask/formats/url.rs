//! What URLs carry.

use std::ops::Range;

use super::{super::find::Context, Seen, run_end};

/// The longest user name and password, in bytes.
const MAX_USERINFO: usize = 1024;

/// The password of a URL's authority: between the first colon after `://` and the last `@` before the host's end (passwords are
/// seen that are not escaped).
pub(super) fn password(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let end = run_end(text, anchor.end, MAX_USERINFO, |byte| {
        byte > b' '
            && !matches!(
                byte,
                b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\'
            )
    });
    let authority = &text[anchor.end..end];
    let found = memchr::memrchr(b'@', authority).and_then(|at| {
        let colon = memchr::memchr(b':', &authority[..at])?;
        let password = anchor.end + colon + 1..anchor.end + at;
        (!password.is_empty()).then_some(password)
    });
    found.into()
}

/// The value of a parameter whose name ends in `signature`.
pub(super) fn signature(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let end = run_end(text, anchor.end, 8 << 10, |byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'%' | b'+' | b'/' | b'=' | b'-' | b'_' | b'.' | b'~')
    });
    (end - anchor.end >= 16).then_some(anchor.end..end).into()
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds_nothing, found_in},
    };

    #[test]
    fn only_the_password_of_a_connection_string() {
        for (text, password) in [
            ("postgres://user:s3cret@host:5432/db", "s3cret"),
            ("mongodb+srv://u:p@ss:w@host/?x", "p@ss:w"),
            ("redis://:only@host", "only"),
            ("see https://u:p%40@host/path, and", "p%40"),
        ] {
            assert_eq!(
                found_in(B::ConnectionPassword, text, Default::default()),
                [password]
            );
        }
        finds_nothing(
            B::ConnectionPassword,
            &[
                "https://host:443/a@b",
                "https://host/?a:b@c",
                "https://user@host",
                "://",
                "a://:@b",
                "ssh://git@host:22",
            ],
        );
    }

    #[test]
    fn signatures_of_signed_urls() {
        let text = "https://x/?X-Goog-Date=1&X-Goog-Signature=0123456789abcdef0123&a=b";
        assert_eq!(
            found_in(B::UrlSignature, text, Default::default()),
            ["0123456789abcdef0123"]
        );
        let text = "https://x/?GoogleAccessId=a&Signature=abc%2Fdef%2Bghijklmno%3D\"";
        assert_eq!(
            found_in(B::UrlSignature, text, Default::default()),
            ["abc%2Fdef%2Bghijklmno%3D"]
        );
        finds_nothing(
            B::UrlSignature,
            &[
                "signature=",
                "signature=short",
                "signature: 0123456789abcdef",
            ],
        );
    }
}
