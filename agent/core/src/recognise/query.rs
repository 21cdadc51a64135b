//! The query, and the form body that some clients move it to.

use percent_encoding::percent_decode;

use super::{Malformed, path};
use crate::catalog::Method;

/// More parameters than this are refused.
const MAX_PARAMETERS: usize = 1000;

/// Parameters that are, or prove, a credential, in lower case without a leading `$`: OAuth 2.0 tokens, API keys and
/// the signed URLs of Cloud Storage (V2, V4 and the interoperable kind).
const CREDENTIALS: [&str; 20] = [
    "access_token",
    "accesstoken",
    "api_key",
    "apikey",
    "authorization",
    "awsaccesskeyid",
    "bearer_token",
    "googleaccessid",
    "key",
    "oauth_token",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-algorithm",
    "x-goog-api-key",
    "x-goog-credential",
    "x-goog-security-token",
    "x-goog-signature",
];

/// Parameters that make another request of the one they are in, or wrap its answer in a script.
const REFUSED: [&str; 10] = [
    "_method",
    "callback",
    "http_method",
    "http-method-override",
    "httpheaders",
    "httpmethod",
    "jsonp",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// System parameters with a `$` that change nothing but the answer's form
/// (<https://cloud.google.com/apis/docs/system-parameters>). Others (`$ct`, `$req`, `$httpHeaders`) can put a
/// whole request into a URL.
const DOLLARS: [&str; 9] = [
    ".xgafv",
    "alt",
    "apiVersion",
    "fields",
    "outputDefaults",
    "prettyPrint",
    "quotaUser",
    "unique",
    "userProject",
];

/// System parameters: one meaning each, whatever the method says.
const SYSTEM: [&str; 7] = [
    "alt",
    "fields",
    "prettyPrint",
    "quotaUser",
    "upload_id",
    "upload",
    "userProject",
];

/// Decoded parameters in the order sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(pub Vec<(String, String)>);

impl Query {
    /// Reads a query or a form body (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// When it cannot be read without doubt, or holds a credential or what makes another request of this one.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).map_err(|_| refused("is not UTF-8"))?;
        path::check_escapes(text)
            .map_err(|_| refused("has a percent sign that begins no escape"))?;
        // A part of a batch has its target from us, with what others take for a fragment.
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !text.bytes().all(plain) {
            return Err(refused("has a character that has to be escaped"));
        }
        let mut pairs = Vec::new();
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(refused("has too many parameters"));
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let pair = (decode(name)?, decode(value)?);
            check(&pair.0, value)?;
            pairs.push(pair);
        }
        let query = Self(pairs);
        query.check_system()?;
        Ok(query)
    }

    /// Adds the parameters of a form body.
    ///
    /// # Errors
    /// When one contradicts what is there.
    pub fn extend(&mut self, other: Self) -> Result<(), Malformed> {
        self.0.extend(other.0);
        self.check_system()
    }

    /// The first value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// # Errors
    /// When a parameter contradicts itself, or one that stands in the path.
    pub fn check_for(&self, method: &Method) -> Result<(), Malformed> {
        for (place, (name, value)) in self.0.iter().enumerate() {
            if method.takes_in_path(name) {
                return Err(refused(&format!("has {name:?}, which stands in the path")));
            }
            let differs = |(other, its): &(String, String)| other == name && its != value;
            if self.0[..place].iter().any(differs) && !method.repeats(name) {
                return Err(refused(&format!(
                    "has {name:?} twice, with different values"
                )));
            }
        }
        Ok(())
    }

    fn check_system(&self) -> Result<(), Malformed> {
        for system in SYSTEM {
            let of_it = |(name, value)| meaning(name, value).filter(|(known, _)| *known == system);
            let mut values = self
                .0
                .iter()
                .filter_map(|(n, v)| of_it((n.as_str(), v.as_str())));
            if let Some((_, first)) = values.next()
                && values.any(|(_, other)| other != first)
            {
                return Err(refused(&format!(
                    "has {system:?} twice, with different values"
                )));
            }
        }
        Ok(())
    }
}

/// A system parameter under its one name, with what its value means.
fn meaning<'a>(name: &'a str, value: &'a str) -> Option<(&'static str, &'a str)> {
    let name = match name.strip_prefix('$').unwrap_or(name) {
        "uploadType" | "upload_protocol" => "upload",
        name => name,
    };
    let system = *SYSTEM.iter().find(|system| **system == name)?;
    let value = match system {
        "alt" => value.split(';').next().unwrap_or(value),
        "upload" if value == "raw" => "media",
        _ => value,
    };
    Some((system, value))
}

fn check(name: &str, raw_value: &str) -> Result<(), Malformed> {
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == ';')
    {
        return Err(refused("has a parameter that no client sends"));
    }
    let is_alt = matches!(name, "alt" | "$alt") && raw_value.ends_with(";enum-encoding=int");
    if raw_value.contains(';') && !(is_alt && raw_value.matches(';').count() == 1) {
        return Err(refused("has a semicolon that has to be escaped"));
    }
    let plain = name.trim_start_matches('$').to_ascii_lowercase();
    if CREDENTIALS.contains(&plain.as_str()) {
        return Err(refused(&format!(
            "has a credential in {name:?}; Holdpoint authenticates requests itself, send none"
        )));
    }
    let unknown = name
        .strip_prefix('$')
        .is_some_and(|system| !DOLLARS.contains(&system));
    if unknown || REFUSED.contains(&plain.as_str()) {
        return Err(refused(&format!("has {name:?}, which is not allowed here")));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, Malformed> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    Ok(decoded.map_err(|_| refused("is not UTF-8"))?.into_owned())
}

fn refused(what: &str) -> Malformed {
    Malformed(format!("the query {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_with_two_meanings_are_refused() {
        for bad in [
            "access_token=x",
            "%61ccess_token=x",
            "Access_Token=x",
            "$key=x",
            "key=AIza",
            "X-Goog-Signature=1",
            "x-goog-signature=1",
            "Signature=1",
            "uploadType=media&uploadType=multipart",
            "uploadType=media&upload_protocol=resumable",
            "alt=json&alt=media",
            "alt=media&%24alt=json",
            "callback=f",
            "$callback=f",
            "$httpMethod=DELETE",
            "$httpHeaders=x",
            "$req=x",
            "$ct=x",
            "_method=DELETE",
            "a=%",
            "a=%zz",
            "a=%ff",
            "a=b;access_token=c",
            "alt=json;access_token=c",
            "$alt=json;key=AIza;enum-encoding=int",
            "a=b#c",
            "a;b=c",
            "a%0a=b",
            "a=b c",
            "upload_id=1&upload_id=2",
        ] {
            assert!(Query::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_real_clients_send_is_read() {
        let query = Query::parse(b"%24alt=json%3Benum-encoding%3Dint&a=b+c&&a=d&alt=json&uploadType=media&upload_protocol=raw");
        let query = query.expect("this query is fine");
        assert_eq!(query.value("$alt"), Some("json;enum-encoding=int"));
        assert_eq!(query.value("a"), Some("b c"));
        assert!(Query::parse(b"$alt=json;enum-encoding=int").is_ok());
    }
}
