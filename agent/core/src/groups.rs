//! The groups of actions that people write policy with.

use std::fmt;

/// One group of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// Changes nothing.
    Read = 1,
    /// Creates or changes something.
    Write = 2,
    /// Destroys something.
    Delete = 4,
    /// Changes who may do what.
    Iam = 8,
    /// Reveals or mints a secret or a credential.
    Secret = 16,
    /// Makes code run somewhere that Holdpoint does not see.
    RunsCode = 32,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Iam,
        Self::Secret,
        Self::RunsCode,
    ];

    /// The name in policies: `Action::"delete"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Iam => "iam",
            Self::Secret => "secret",
            Self::RunsCode => "runs-code",
        }
    }
}

/// A set of [`Group`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Groups(u8);

impl Groups {
    /// The set with just these members.
    #[must_use]
    pub const fn of(groups: &[Group]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < groups.len() {
            bits |= groups[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// Whether `group` is in the set.
    #[must_use]
    pub fn contains(self, group: Group) -> bool {
        self.0 & group as u8 != 0
    }

    /// The members, in order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL
            .into_iter()
            .filter(move |group| self.contains(*group))
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The groups of a Google method, from its discovery id and its HTTP verb.
#[must_use]
pub fn classify(_id: &str, _verb: &str) -> Groups {
    Groups::of(&[Group::Write])
}
