//! `Content-Type` (RFC 9110, section 8.3).

use http::{HeaderMap, header::CONTENT_TYPE};

use super::Malformed;

/// A media type in lower case with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// `application/json`.
    pub essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// The media type of a body, if one is given.
    ///
    /// # Errors
    /// When it is given twice or cannot be read.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Malformed("Content-Type is given twice".into()));
        }
        let text = value.to_str().map_err(|_| unreadable())?;
        Self::parse(text).map(Some)
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim().to_ascii_lowercase();
        if !essence.split('/').all(is_token) || essence.split('/').count() != 2 {
            return Err(unreadable());
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        while !rest.trim().is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(unreadable)?;
            let name = name.trim().to_ascii_lowercase();
            // `boundary*0=`, `boundary*=` (RFC 2231): another way to say it, which only some readers know.
            let is_plain = is_token(&name) && !name.contains('*');
            let is_doubtful = name == "boundary" && !is_plain_boundary(after);
            if !is_plain || is_doubtful || parameters.iter().any(|(known, _)| *known == name) {
                return Err(unreadable());
            }
            let (value, after) = value(after).ok_or_else(unreadable)?;
            parameters.push((name, value));
            rest = after;
        }
        Ok(Self {
            essence,
            parameters,
        })
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn is_form(&self) -> bool {
        self.essence == "application/x-www-form-urlencoded"
    }

    pub fn is_grpc(&self) -> bool {
        self.essence.starts_with("application/grpc")
    }

    /// Whether Google reads such a body as JSON.
    pub fn is_json(&self) -> bool {
        let json = matches!(
            self.essence.as_str(),
            "application/json" | "text/json" | "text/plain"
        );
        let utf8 = |charset: &str| {
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
        };
        (json || self.essence.ends_with("+json")) && self.parameter("charset").is_none_or(utf8)
    }

    /// The same type without the client's choice of boundary.
    pub fn canonical(&self) -> String {
        let meaningful = self
            .parameters
            .iter()
            .filter(|(name, _)| name != "boundary");
        let mut parameters: Vec<_> = meaningful
            .map(|(name, value)| format!(";{name}={}", value.to_ascii_lowercase()))
            .collect();
        parameters.sort();
        format!("{}{}", self.essence, parameters.concat())
    }
}

/// A token or a quoted string, and what follows the next semicolon. Tokens are taken as loosely as clients spell them:
/// boundaries such as `===1234==` come unquoted, too.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        let value = value.trim();
        let legal = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        return legal.then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = quoted[at + 1..].trim_start();
                let rest = after
                    .strip_prefix(';')
                    .or_else(|| after.is_empty().then_some(""))?;
                return Some((value, rest));
            }
            '\\' => value.push(chars.next()?.1),
            c if c.is_control() => return None,
            c => value.push(c),
        }
    }
    None
}

/// Whether all readers find the same boundary at the start of `text`: in quotes without escapes, or a token. The equals signs of
/// clients that leave the quotes out are no end to anybody; at other special characters some readers stop.
fn is_plain_boundary(text: &str) -> bool {
    if let Some(quoted) = text.trim_start().strip_prefix('"') {
        return !quoted.split('"').next().unwrap_or_default().contains('\\');
    }
    let boundary = text.split(';').next().unwrap_or_default().trim();
    boundary
        .split('=')
        .all(|piece| piece.is_empty() || is_token(piece))
}

fn is_token(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(legal)
}

fn unreadable() -> Malformed {
    Malformed("the Content-Type cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_that_readers_differ_in_are_refused() {
        for good in [
            "===12==",
            "'===12=='",
            "a-b_c.d",
            "\"a,b:(c)/d?\"",
            " \"b\" ; x=y",
        ] {
            let text = format!("multipart/mixed; boundary={good}");
            assert!(MediaType::parse(&text).is_ok(), "{text}");
        }
        for bad in [
            "boundary=a,b",
            "boundary=a(b)",
            "boundary=a/b",
            "boundary=a:b",
            "boundary=a?b",
            "boundary=\"a\\b\"",
            "boundary*=UTF-8''b",
            "boundary*0=b",
            "boundary=a; boundary*0=b",
            "boundary=a; boundary=b",
            "boundary=a; Boundary=a",
        ] {
            let text = format!("multipart/mixed; {bad}");
            assert!(MediaType::parse(&text).is_err(), "{text}");
        }
    }
}
