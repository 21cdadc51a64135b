//! What browsers send: forms and cookies.

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// The one value of a field of `application/x-www-form-urlencoded` (also of a query). `None` when it is not there, is there twice, or is
/// not UTF-8.
pub(super) fn field(form: &str, name: &str) -> Option<String> {
    let values = form.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key).as_deref() == Some(name)).then_some(value)
    });
    only(values).and_then(decoded)
}

/// The one cookie of this name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(';'));
    only(pairs.filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    }))
}

fn only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back_as_they_went(value: String, other: String) {
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let form = format!("x={}&comment={}", encoded(&other), encoded(&value));
            prop_assert_eq!(field(&form, "comment"), Some(value));
        }

        #[test]
        fn anything_is_read_or_not(form: String) {
            let _ = field(&form, "comment");
            if let Ok(value) = HeaderValue::from_str(&form) {
                let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
                let _ = cookie(&headers, "a");
            }
        }
    }

    #[test]
    fn what_is_there_twice_is_not_there() {
        assert_eq!(field("a=1&b=+2%2B", "b").as_deref(), Some(" 2+"));
        assert_eq!(field("a=1&a=2", "a"), None);
        assert_eq!(field("a=%ff", "a"), None);
        let cookies = HeaderValue::from_static("a=1; b=2; a=3");
        let headers = HeaderMap::from_iter([(header::COOKIE, cookies)]);
        assert_eq!(cookie(&headers, "a"), None);
        assert_eq!(cookie(&headers, "b"), Some("2"));
    }
}
