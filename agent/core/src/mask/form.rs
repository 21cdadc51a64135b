//! How a body has to be read, by its content type.

/// How a body has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON value (RFC 8259). Empty is allowed.
    Json,
    /// JSON values one after another, in lines or not.
    JsonLines,
    /// Lines in an encoding in which ASCII bytes are ASCII.
    Text,
    /// `a=b&c=d`.
    UrlEncoded,
    /// XML without a document type.
    Xml,
    /// One protobuf message.
    Protobuf,
    /// gRPC: protobuf messages, each behind its length.
    Grpc,
    /// Parts, each with a head and a form of its own.
    Multipart {
        /// What divides them, without the hyphens.
        boundary: String,
    },
    /// An HTTP message: a part of a batch.
    Http,
    /// Nothing that Holdpoint reads: only empty bodies pass.
    Opaque,
}

/// Charsets in which ASCII bytes mean ASCII, and nothing else does.
fn is_ascii_like(charset: &str) -> bool {
    let charset = charset.to_ascii_lowercase();
    matches!(
        charset.as_str(),
        "utf-8" | "utf8" | "us-ascii" | "ascii" | "latin1"
    ) || charset.starts_with("iso-8859-")
        || charset.starts_with("windows-125")
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii"]
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known))
}

impl Form {
    /// By a `Content-Type`. What has none, or a charset that is not understood, is [`Form::Opaque`].
    #[must_use]
    pub fn of(content_type: Option<&str>) -> Self {
        let Some(content_type) = content_type else {
            return Self::Opaque;
        };
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let kind = kind.trim().to_ascii_lowercase();
        let charset = parameter(parameters, "charset");
        let form = Self::of_kind(&kind, parameters);
        let readable = match (&form, charset) {
            (_, None) => true,
            (Self::Text, Some(charset)) => is_ascii_like(&charset),
            (_, Some(charset)) => is_utf8(&charset),
        };
        if readable { form } else { Self::Opaque }
    }

    fn of_kind(kind: &str, parameters: &str) -> Self {
        match kind {
            "application/json"
            | "text/json"
            | "text/x-json"
            | "text/javascript"
            | "application/javascript" => Self::Json,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/json-lines"
            | "application/x-jsonlines" => Self::JsonLines,
            "application/x-www-form-urlencoded" => Self::UrlEncoded,
            "application/xml" | "text/xml" => Self::Xml,
            "application/http" => Self::Http,
            "application/x-protobuf"
            | "application/protobuf"
            | "application/vnd.google.protobuf" => Self::Protobuf,
            "application/yaml"
            | "application/x-yaml"
            | "application/sql"
            | "application/toml"
            | "application/x-sh"
            | "application/x-pem-file" => Self::Text,
            _ if kind.starts_with("application/grpc") => match kind.split_once('+') {
                _ if kind.contains("-text") => Self::Opaque,
                None | Some((_, "proto")) => Self::Grpc,
                Some(_) => Self::Opaque,
            },
            _ if kind.ends_with("+json") => Self::Json,
            _ if kind.ends_with("+xml") => Self::Xml,
            _ if kind.starts_with("multipart/") => match parameter(parameters, "boundary") {
                Some(boundary) if (1..=70).contains(&boundary.len()) => {
                    Self::Multipart { boundary }
                }
                _ => Self::Opaque,
            },
            _ if kind.starts_with("text/") => Self::Text,
            _ => Self::Opaque,
        }
    }
}

/// A parameter of a content type (RFC 9110, section 5.6.6), quoted or not.
pub(super) fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (found, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// A quoted string's content, and what is after it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        let of = |content_type| Form::of(Some(content_type));
        assert_eq!(of("application/json; charset=UTF-8"), Form::Json);
        assert_eq!(of("Application/Vnd.API+JSON"), Form::Json);
        assert_eq!(of("application/json; charset=utf-16"), Form::Opaque);
        assert_eq!(of("application/x-ndjson"), Form::JsonLines);
        assert_eq!(of("text/plain; charset=iso-8859-1"), Form::Text);
        assert_eq!(of("text/plain; charset=utf-7"), Form::Opaque);
        assert_eq!(of("text/html"), Form::Text);
        assert_eq!(of("image/svg+xml"), Form::Xml);
        assert_eq!(of("application/grpc"), Form::Grpc);
        assert_eq!(of("application/grpc+proto"), Form::Grpc);
        assert_eq!(of("application/grpc+json"), Form::Opaque);
        assert_eq!(of("application/grpc-web-text"), Form::Opaque);
        assert_eq!(of("application/octet-stream"), Form::Opaque);
        assert_eq!(of("multipart/mixed"), Form::Opaque);
        assert_eq!(Form::of(None), Form::Opaque);
        for text in [
            "multipart/mixed; boundary=a_b",
            r#"multipart/related; x="a;boundary=no"; Boundary="a_\b""#,
        ] {
            let boundary = "a_b".to_owned();
            assert_eq!(of(text), Form::Multipart { boundary });
        }
    }
}
