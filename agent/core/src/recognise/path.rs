//! Paths: refused unless canonical, never rewritten.

use percent_encoding::percent_decode_str;

use super::Malformed;

/// The longest path, and the longest query, in bytes.
pub(super) const MAX_LENGTH: usize = 16 << 10;

/// Splits a path into raw segments, without the leading slash.
///
/// # Errors
/// When it is too long, not a path, or has characters that no client sends unescaped.
pub(super) fn segments(path: &str) -> Result<Vec<&str>, Malformed> {
    if path.len() > MAX_LENGTH {
        return Err(Malformed(format!(
            "the path is longer than {MAX_LENGTH} bytes"
        )));
    }
    let Some(relative) = path.strip_prefix('/') else {
        return Err(Malformed("the path does not begin with a slash".into()));
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b'?');
    if !relative.bytes().all(plain) {
        return Err(Malformed(
            "the path has a character that has to be escaped".into(),
        ));
    }
    check_escapes(relative)?;
    Ok(relative.split('/').collect())
}

/// A segment of a path whose meaning must be beyond doubt.
///
/// # Errors
/// When it is empty or a dot segment, or escapes what needs no escape or what would divide it.
pub(super) fn check_strict(segment: &str) -> Result<(), Malformed> {
    if segment.is_empty() {
        return Err(Malformed("the path has an empty segment".into()));
    }
    check_dots(segment)?;
    if segment.contains(';') {
        return Err(Malformed("the path has a semicolon".into()));
    }
    for escaped in escapes(segment) {
        let needless = escaped.is_ascii_alphanumeric() || matches!(escaped, b'-' | b'.' | b'_');
        if needless || matches!(escaped, b'/' | b'\\' | b';') {
            let byte = char::from(escaped);
            return Err(Malformed(format!("the path has an escaped {byte:?}")));
        }
    }
    decode(segment).map(drop)
}

/// # Errors
/// When the segment is `.` or `..`, escaped or not.
pub(super) fn check_dots(segment: &str) -> Result<(), Malformed> {
    match decode(segment)?.as_str() {
        "." | ".." => Err(Malformed("the path has a dot segment".into())),
        _ => Ok(()),
    }
}

/// An object's decoded name may hold `..`, but no reading of it as a path may lead out of its bucket.
///
/// # Errors
/// When one does.
pub(super) fn check_climb(object: &str) -> Result<(), Malformed> {
    let mut depth = 0_usize;
    for segment in object.split(['/', '\\']) {
        match segment {
            "." | "" => {}
            ".." => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| Malformed("the path climbs out of its bucket".into()))?;
            }
            _ => depth += 1,
        }
    }
    Ok(())
}

/// Decodes a segment, or the rest of a path that is one opaque name.
///
/// # Errors
/// When that is not UTF-8 or has a control character.
pub(super) fn decode(text: &str) -> Result<String, Malformed> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Malformed("the path is not UTF-8".into()))?;
    if decoded.chars().any(char::is_control) {
        return Err(Malformed("the path has a control character".into()));
    }
    Ok(decoded.into_owned())
}

/// # Errors
/// When a percent sign is not followed by two hexadecimal digits.
pub(super) fn check_escapes(text: &str) -> Result<(), Malformed> {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let good = |(at, _)| hex(bytes.get(at + 1)) && hex(bytes.get(at + 2));
    if text.match_indices('%').all(good) {
        return Ok(());
    }
    Err(Malformed("a percent sign begins no escape".into()))
}

/// The bytes that are escaped in a text that passed [`check_escapes`].
fn escapes(text: &str) -> impl Iterator<Item = u8> {
    text.match_indices('%').filter_map(|(at, _)| {
        let digits = text.get(at + 1..at + 3)?;
        u8::from_str_radix(digits, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_canonical_are_refused() {
        for bad in [
            "a//b",
            "",
            "a/",
            "a/./b",
            "a/../b",
            "a/%2e%2e/b",
            "a/%2E/b",
            "a%2fb",
            "a%2Fb",
            "a%5cb",
            "a;x=1",
            "a%3Bx",
            "%61",
            "a%00b",
            "a%0d%0ab",
            "a%ffb",
            "a%7fb",
        ] {
            let path = format!("/{bad}");
            let segments = segments(&path).expect("these are legal characters");
            assert!(
                segments
                    .iter()
                    .any(|segment| check_strict(segment).is_err()),
                "{bad}"
            );
        }
        for bad in [
            "a", "/a\\b", "/a b", "/a%", "/a%2", "/a%zz", "/a#b", "/ä", "/a\tb", "/a\u{7f}",
        ] {
            assert!(segments(bad).is_err(), "{bad}");
        }
        assert!(segments(&format!("/{}", "a".repeat(MAX_LENGTH))).is_err());
    }

    #[test]
    fn what_real_clients_send_passes() {
        for good in [
            "sa1@p.iam.gserviceaccount.com:getIamPolicy",
            "-",
            "a%20b",
            "example.com%3Ap",
            "%40x",
            "a~%7E",
        ] {
            assert!(check_strict(good).is_ok(), "{good}");
        }
    }
}
