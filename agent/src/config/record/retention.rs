//! `[record.retention]`: how long what is in the record stays.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::{Deserialize, Serialize};

/// How long each class stays. Nothing goes where nothing is said.
///
/// Bodies never stay longer than the events that name them, and these no longer than those of segments with denied operations: segments
/// only go as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Retention {
    /// Stored bodies.
    pub bodies: Option<Age>,
    /// Segments of events.
    pub metadata: Option<Age>,
    /// Segments of events in which an operation was denied.
    pub denied: Option<Age>,
}

/// How old something may become: a day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age(SignedDuration);

impl Age {
    /// When something of this time is that old; never where there is no such time.
    #[must_use]
    pub fn after(self, time: Timestamp) -> Timestamp {
        time.checked_add(self.0).unwrap_or(Timestamp::MAX)
    }
}

/// Why this cannot be how long something stays.
#[derive(Debug, thiserror::Error)]
pub enum Unkeepable {
    /// Not a length of time.
    #[error(
        "`{0}` is not a length of time: say for example \"30d\" or \"12h\"; months and years differ in length, so say days"
    )]
    NotAnAge(String),
    /// Segments go with their bodies.
    #[error(
        "record.retention.bodies is longer than metadata: bodies go with the events that name them"
    )]
    BodiesOutliveEvents,
    /// Segments go as a whole.
    #[error(
        "record.retention.denied has to be as long as metadata, or longer: segments go as a whole, so that nothing in one goes earlier \
         than the rest of it"
    )]
    DeniedFirst,
    /// It would have no effect.
    #[error("record.retention.denied without metadata has no effect: all events stay for ever")]
    OnlyDenied,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bodies: Option<Age>,
    metadata: Option<Age>,
    denied: Option<Age>,
}

impl TryFrom<Raw> for Retention {
    type Error = Unkeepable;

    fn try_from(raw: Raw) -> Result<Self, Unkeepable> {
        let Some(metadata) = raw.metadata else {
            return match raw.denied {
                Some(_) => Err(Unkeepable::OnlyDenied),
                None => Ok(Self {
                    bodies: raw.bodies,
                    ..Self::default()
                }),
            };
        };
        let (bodies, denied) = (
            raw.bodies.unwrap_or(metadata),
            raw.denied.unwrap_or(metadata),
        );
        if bodies > metadata {
            return Err(Unkeepable::BodiesOutliveEvents);
        }
        if denied < metadata {
            return Err(Unkeepable::DeniedFirst);
        }
        Ok(Self {
            bodies: Some(bodies),
            metadata: Some(metadata),
            denied: Some(denied),
        })
    }
}

impl FromStr for Age {
    type Err = Unkeepable;

    fn from_str(text: &str) -> Result<Self, Unkeepable> {
        let span: Option<Span> = text.parse().ok();
        let age = span.and_then(|it| it.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        age.filter(|age| !age.is_negative())
            .map(Self)
            .ok_or_else(|| Unkeepable::NotAnAge(text.to_owned()))
    }
}

impl TryFrom<String> for Age {
    type Error = Unkeepable;

    fn try_from(text: String) -> Result<Self, Unkeepable> {
        text.parse()
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 3600;
        match self.0.as_secs() {
            seconds if seconds > 0 && seconds % DAY == 0 && self.0.subsec_nanos() == 0 => {
                write!(f, "{}d", seconds / DAY)
            }
            _ => write!(f, "{:#}", self.0),
        }
    }
}

impl From<Age> for String {
    fn from(age: Age) -> Self {
        age.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Retention, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    fn age(text: &str) -> Option<Age> {
        Some(text.parse().expect("an age"))
    }

    #[test]
    fn what_is_not_said_follows_from_the_events() {
        assert_eq!(read("").expect("valid"), Retention::default());
        let all = read("metadata = \"30d\"").expect("valid");
        assert_eq!((all.bodies, all.denied), (age("720h"), age("30d")));
        let own = read("bodies = \"7d\"\nmetadata = \"30d\"\ndenied = \"52w\"").expect("valid");
        assert_eq!((own.bodies, own.denied), (age("7d"), age("364d")));
        assert_eq!(read("bodies = \"7d\"").expect("valid").metadata, None);
        assert_eq!(String::from(age("364d").expect("some")), "364d");
        assert_eq!(age(&age("90m").expect("some").to_string()), age("90m"));
    }

    #[test]
    fn what_cannot_be_kept_so_is_refused() {
        for (text, because) in [
            ("bodies = \"31d\"\nmetadata = \"30d\"", "bodies go with"),
            ("metadata = \"30d\"\ndenied = \"29d\"", "as a whole"),
            ("denied = \"29d\"", "no effect"),
            ("metadata = \"1mo\"", "say days"),
            ("metadata = \"-1d\"", "length of time"),
            ("metadata = 30", "string"),
            ("metadata = \"30\"", "length of time"),
            ("events = \"30d\"", "unknown field"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(because), "{text}: {error}");
        }
    }
}
