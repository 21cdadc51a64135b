//! One line of the doctor's.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, and should be looked at.
    Warn,
    /// Does not work, or is not safe.
    Fail,
}

impl Grade {
    /// For the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What was looked at, what was found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found, and what it means.
    pub says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, says: impl Into<String>) -> Self {
        Self {
            grade: Grade::Ok,
            subject,
            says: says.into(),
            advice: None,
        }
    }

    pub(super) fn warn(
        subject: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            grade: Grade::Warn,
            subject,
            says: says.into(),
            advice: Some(advice.into()),
        }
    }

    pub(super) fn fail(
        subject: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            grade: Grade::Fail,
            ..Self::warn(subject, says, advice)
        }
    }
}
