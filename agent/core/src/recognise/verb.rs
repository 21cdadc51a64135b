//! The verb that counts.

use super::{Head, Malformed};

const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The effective verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verb {
    /// After `X-HTTP-Method-Override`.
    pub name: &'static str,
    /// A GET in the dress of a POST: its query may be in a form body. Clients do so when a URL gets too long.
    pub form_is_query: bool,
}

impl Verb {
    /// # Errors
    /// When there are two verbs, or one that Holdpoint does not know.
    pub fn of(head: &Head<'_>) -> Result<Self, Malformed> {
        let sent = known(head.method)?;
        if let Some(other) = head
            .headers
            .keys()
            .find(|name| is_other_override(name.as_str()))
        {
            return Err(Malformed(format!("the header {other} is not allowed")));
        }
        let mut overrides = head.headers.get_all("x-http-method-override").iter();
        let Some(value) = overrides.next() else {
            return Ok(Self::plain(sent));
        };
        if overrides.next().is_some() {
            return Err(Malformed("X-HTTP-Method-Override is given twice".into()));
        }
        let name = known(value.to_str().unwrap_or_default())?;
        if name == sent {
            return Ok(Self::plain(sent));
        }
        if sent != "POST" {
            return Err(Malformed(format!(
                "a {sent} cannot be turned into a {name}"
            )));
        }
        Ok(Self {
            name,
            form_is_query: name == "GET",
        })
    }

    fn plain(name: &'static str) -> Self {
        Self {
            name,
            form_is_query: false,
        }
    }
}

/// Whether some reader may take this header for `X-HTTP-Method-Override`: `X-HTTP-Method`, `X-Method-Override`, underscores.
fn is_other_override(name: &str) -> bool {
    let letters: String = name.split(['-', '_']).collect();
    name != "x-http-method-override"
        && (letters.contains("httpmethod") || letters.contains("methodoverride"))
}

fn known(verb: &str) -> Result<&'static str, Malformed> {
    let found = VERBS.iter().find(|known| **known == verb);
    found.copied().ok_or_else(|| {
        let shown: String = verb.chars().take(20).collect();
        Malformed(format!("{shown:?} is not a verb that Holdpoint knows"))
    })
}
