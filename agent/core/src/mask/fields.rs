//! What is masked for where it is, whatever it looks like.

use std::{borrow::Cow, collections::HashMap};

use super::{Builtin, names};

/// How many parts a path may have.
const MAX_PARTS: usize = 16;

/// What the name of a field says about its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing.
    #[default]
    None,
    /// An identifier, a count or a time: digits in it are no card or telephone number.
    Identifier,
    /// A payment card or account number.
    Card,
    /// A telephone number.
    Phone,
    /// A social security number.
    Ssn,
}

impl Hint {
    /// By a normalised name.
    pub(super) fn of(name: &[u8]) -> Self {
        let has = |parts: &[&str]| {
            parts
                .iter()
                .any(|part| memchr::memmem::find(name, part.as_bytes()).is_some())
        };
        let ends = |parts: &[&str]| parts.iter().any(|part| name.ends_with(part.as_bytes()));
        if has(&["phone", "mobile", "telefon"]) || ends(&["fax", "msisdn"]) || name == b"tel" {
            Self::Phone
        } else if has(&["cardn", "creditcard", "debitcard", "cardpan"])
            || matches!(name, b"pan" | b"card")
        {
            Self::Card
        } else if has(&["socialsecurity"]) || ends(&["ssn"]) {
            Self::Ssn
        } else if ends(&[
            "id",
            "ids",
            "uid",
            "etag",
            "fingerprint",
            "generation",
            "hash",
            "link",
            "micros",
            "millis",
            "nanos",
            "ns",
            "number",
            "seconds",
            "size",
            "bytes",
            "time",
            "timestamp",
            "token",
            "version",
            "count",
            "url",
            "uri",
            "key",
        ]) {
            Self::Identifier
        } else {
            Self::None
        }
    }
}

/// Paths, found by their last part.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    by_last: HashMap<Vec<u8>, Vec<Rule>>,
    any_last: Vec<Rule>,
    numbers: Vec<(Vec<u32>, u16)>,
    /// [`Builtin::SecretField`]'s index, where the set has it.
    pub(super) by_name: Option<u16>,
}

/// One path, apart from its last part.
#[derive(Clone, Debug)]
struct Rule {
    /// The parts above, from the last but one up. `None` is `*`.
    above: Vec<Option<Vec<u8>>>,
    rooted: bool,
    what: Whole,
}

/// A value that is masked as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// As what.
    pub(super) detector: u16,
    /// What the client can read there.
    pub(super) stand_in: StandIn,
    /// Told by the name alone, so that the value has to look like a secret.
    pub(super) guessed: bool,
}

/// What stands where a whole value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandIn {
    /// The token.
    Token,
    /// The token in base64, since the field is base64 of bytes.
    Base64,
    /// Nothing, as if it had not been sent: a sum of what is masked, by which the client would find it damaged.
    Nothing,
}

/// The path says nothing.
pub(super) struct NoPath;

impl Fields {
    /// Adds a path as the configuration writes it.
    pub(super) fn add(
        &mut self,
        path: &str,
        detector: u16,
        stand_in: StandIn,
    ) -> Result<(), NoPath> {
        if let Some(numbers) = path.strip_prefix("grpc:") {
            let numbers: Result<Vec<u32>, _> = numbers.split('.').map(str::parse).collect();
            let numbers = numbers.map_err(|_| NoPath)?;
            if numbers.len() > MAX_PARTS || numbers.contains(&0) {
                return Err(NoPath);
            }
            self.numbers.push((numbers, detector));
            return Ok(());
        }
        let (rooted, path) = match path.strip_prefix("$.") {
            Some(rest) => (true, rest),
            None => (false, path),
        };
        let mut parts = parts(path)?;
        let last = parts.pop().ok_or(NoPath)?;
        parts.reverse();
        let rule = Rule {
            above: parts,
            rooted,
            what: Whole {
                detector,
                stand_in,
                guessed: false,
            },
        };
        match last {
            Some(last) => self.by_last.entry(last).or_default().push(rule),
            None => self.any_last.push(rule),
        }
        Ok(())
    }

    /// Whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_none()
            && self.by_last.is_empty()
            && self.any_last.is_empty()
            && self.numbers.is_empty()
    }

    /// Whether some path may end in this (normalised) name, so that the names above have to be looked at.
    pub(super) fn may_end_in(&self, name: &[u8]) -> bool {
        !self.any_last.is_empty() || self.by_last.contains_key(name)
    }

    /// The rule for the value at this path, given from its end. Names are normalised.
    pub(super) fn at<'a>(
        &self,
        name: &[u8],
        above: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Option<Whole> {
        let named = self.by_last.get(name).into_iter().flatten();
        named
            .chain(&self.any_last)
            .find(|rule| rule.is_under(above.clone()))
            .map(|rule| rule.what)
    }

    /// The rule for a header, a parameter or a column: a path of one part, or the name itself.
    pub(super) fn named(&self, name: &str) -> Option<Whole> {
        let mut plain = Vec::with_capacity(name.len());
        names::normalise(name.as_bytes(), &mut plain);
        let mut rules = self.by_last.get(&plain).into_iter().flatten();
        let own = rules.find(|rule| rule.above.is_empty());
        own.map(|rule| rule.what).or_else(|| {
            let detector = self.by_name?;
            names::names_a_secret(name).then_some(Whole {
                detector,
                stand_in: StandIn::Token,
                guessed: true,
            })
        })
    }

    /// The rule for the protobuf field at these numbers, from the root.
    pub(super) fn at_numbers(&self, numbers: &[u32]) -> Option<u16> {
        let mut rules = self.numbers.iter();
        rules
            .find(|(path, _)| path == numbers)
            .map(|(_, detector)| *detector)
    }
}

impl Rule {
    fn is_under<'a>(&self, mut above: impl Iterator<Item = &'a [u8]>) -> bool {
        let matches = self.above.iter().all(|part| {
            above
                .next()
                .is_some_and(|name| part.as_ref().is_none_or(|part| part == name))
        });
        matches && (!self.rooted || above.next().is_none())
    }
}

/// The parts of `a.*.'b.c'`, normalised. `None` is `*`.
fn parts(path: &str) -> Result<Vec<Option<Vec<u8>>>, NoPath> {
    let mut parts = Vec::new();
    let mut rest = path;
    loop {
        let (part, after) = part(rest)?;
        let mut plain = Vec::new();
        names::normalise(part.as_bytes(), &mut plain);
        if plain.is_empty() || parts.len() == MAX_PARTS {
            return Err(NoPath);
        }
        parts.push((part != "*").then_some(plain));
        if after.is_empty() {
            return Ok(parts);
        }
        rest = after.strip_prefix('.').ok_or(NoPath)?;
    }
}

/// The first part of a path, and what is after it. Quotes are as in [`crate::fields::Fields`].
fn part(path: &str) -> Result<(Cow<'_, str>, &str), NoPath> {
    let Some(quoted) = path.strip_prefix('\'') else {
        return Ok(path
            .find('.')
            .map_or((path.into(), ""), |dot| (path[..dot].into(), &path[dot..])));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('\'').ok_or(NoPath)?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                name.push('\'');
                rest = after;
            }
            None => return Ok((name.into(), rest)),
        }
    }
}

/// Fields in which Google's minting methods return what they have minted: service account keys, access and ID tokens, signed
/// JWTs and blobs, secret payloads, passwords, HMAC keys, OAuth token endpoints.
pub(super) const MINTED: [(&str, StandIn); 27] = [
    ("privateKeyData", StandIn::Base64),
    ("accessToken", StandIn::Token),
    ("access_token", StandIn::Token),
    ("idToken", StandIn::Token),
    ("refreshToken", StandIn::Token),
    ("token", StandIn::Token),
    ("signedJwt", StandIn::Token),
    ("signedBlob", StandIn::Base64),
    ("signature", StandIn::Base64),
    ("payload.data", StandIn::Base64),
    ("payload.dataCrc32c", StandIn::Nothing),
    ("password", StandIn::Token),
    ("rootPassword", StandIn::Token),
    ("secret", StandIn::Token),
    ("keyString", StandIn::Token),
    ("clientSecret", StandIn::Token),
    ("certPrivateKey", StandIn::Token),
    ("privateKey", StandIn::Token),
    ("clientKey", StandIn::Base64),
    ("authString", StandIn::Token),
    ("connectionString", StandIn::Token),
    ("authToken", StandIn::Token),
    ("sessionToken", StandIn::Token),
    ("customToken", StandIn::Token),
    ("deviceCode", StandIn::Token),
    ("$.code", StandIn::Token),
    ("assertion", StandIn::Token),
];

impl Fields {
    /// Adds what [`Builtin::Minted`] is about.
    pub(super) fn add_minted(&mut self, detector: u16) {
        for (path, stand_in) in MINTED {
            let added = self.add(path, detector, stand_in);
            debug_assert!(added.is_ok(), "{} path {path}", Builtin::Minted.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(paths: &[&str]) -> Fields {
        let mut fields = Fields::default();
        for (path, detector) in paths.iter().zip(0..) {
            assert!(fields.add(path, detector, StandIn::Token).is_ok(), "{path}");
        }
        fields
    }

    fn at(fields: &Fields, path: &str) -> Option<u16> {
        let names: Vec<&[u8]> = path.split('/').rev().map(str::as_bytes).collect();
        let found = fields.at(names[0], names[1..].iter().copied());
        found.map(|whole| whole.detector)
    }

    #[test]
    fn a_path_matches_at_its_end_or_from_the_root() {
        let fields = fields(&[
            "customer.name",
            "$.items.*.phone_number",
            "ssn",
            "notes.*",
            "'a.b'.c",
        ]);
        assert_eq!(at(&fields, "customer/name"), Some(0));
        assert_eq!(at(&fields, "orders/customer/name"), Some(0));
        assert_eq!(at(&fields, "name"), None);
        assert_eq!(at(&fields, "items/x/phonenumber"), Some(1));
        assert_eq!(at(&fields, "list/items/x/phonenumber"), None);
        assert_eq!(at(&fields, "a/b/ssn"), Some(2));
        assert_eq!(at(&fields, "notes/anything"), Some(3));
        assert_eq!(at(&fields, "a.b/c"), Some(4));
        assert_eq!(fields.named("SSN").map(|whole| whole.detector), Some(2));
        assert_eq!(fields.named("name"), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "", ".", "a..b", "$.", "grpc:", "grpc:0", "grpc:1.x", "'a", "'a'b", "-_",
        ] {
            assert!(
                Fields::default().add(path, 0, StandIn::Token).is_err(),
                "{path}"
            );
        }
        let deep = ["a"; MAX_PARTS + 2].join(".");
        assert!(Fields::default().add(&deep, 0, StandIn::Token).is_err());
    }

    #[test]
    fn names_hint_at_what_values_are() {
        assert_eq!(Hint::of(b"phonenumber"), Hint::Phone);
        assert_eq!(Hint::of(b"cardnumber"), Hint::Card);
        assert_eq!(Hint::of(b"projectnumber"), Hint::Identifier);
        assert_eq!(Hint::of(b"id"), Hint::Identifier);
        assert_eq!(Hint::of(b"description"), Hint::None);
    }
}
