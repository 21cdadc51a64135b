//! Numbers and literals.

/// Where a number or literal ends.
pub(super) fn scalar_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| {
        matches!(
            byte,
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b']' | b'}' | b'{' | b'[' | b'"' | b':'
        )
    })
}

/// RFC 8259, section 6.
pub(super) fn is_number(raw: &[u8]) -> bool {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let raw = raw.strip_prefix(b"-").unwrap_or(raw);
    let whole = digits(raw);
    if whole == 0 || (whole > 1 && raw[0] == b'0') {
        return false;
    }
    let mut rest = &raw[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    let Some(exponent) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) else {
        return rest.is_empty();
    };
    let exponent = exponent
        .strip_prefix(b"+")
        .or(exponent.strip_prefix(b"-"))
        .unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}
