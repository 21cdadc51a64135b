//! What people write to name several things at once.

use std::{convert::Infallible, str::FromStr};

use serde::Deserialize;

/// Text in which `*` stands for anything. Compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Pattern(String);

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self(text.to_lowercase())
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

impl Pattern {
    /// Whether all of `text` is this.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let Some((first, rest)) = self.0.split_once('*') else {
            return text == self.0;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(inner) = text
            .strip_prefix(first)
            .and_then(|text| text.strip_suffix(last))
        else {
            return false;
        };
        // Taking each part where it first comes leaves most room for the others.
        middle
            .split('*')
            .try_fold(inner, |text, part| {
                text.find(part).map(|at| &text[at + part.len()..])
            })
            .is_some()
    }

    /// Whether it is somewhere in `text`; one with a `*` has to be all of it.
    #[must_use]
    pub fn is_part_of(&self, text: &str) -> bool {
        match self.0.contains('*') {
            true => self.is(text),
            false => text.to_lowercase().contains(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.to_owned().into()
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(pattern("sql.*").is("sql.instances.delete"));
        assert!(pattern("*.delete").is("sql.instances.delete"));
        assert!(pattern("s*.*.d*e").is("SQL.instances.delete"));
        assert!(!pattern("sql.*").is("bigquery.sql.x"));
        assert!(!pattern("sql").is("sql.instances.delete"));
        assert!(!pattern("ab*ba").is("aba"));
        assert!(pattern("prod").is_part_of("//sql/instances/Prod-db"));
        assert!(!pattern("prod*").is_part_of("//sql/instances/prod-db"));
    }

    proptest! {
        #[test]
        fn what_the_stars_stood_for_does_not_matter(parts in prop::collection::vec("[a-c]{0,3}", 2..5), between in "[a-d]{0,4}") {
            prop_assert!(pattern(&parts.join("*")).is(&parts.join(&between)));
        }
    }
}
