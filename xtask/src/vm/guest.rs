//! The matrix: kernels of Debian's, and the Debians they run under.

use std::fs;

use anyhow::Context as _;

/// Debian's releases that come into question, oldest first. Testing has what sid has a few days later, and is not broken on any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    Bullseye,
    Bookworm,
    Trixie,
    Testing,
}

impl Release {
    const ALL: [Self; 4] = [Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Testing];

    /// As the archive calls it.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Testing => "testing",
        }
    }

    /// What this host is.
    ///
    /// # Errors
    /// When it is no Debian.
    pub fn of_this_host() -> anyhow::Result<Self> {
        let about = fs::read_to_string("/etc/os-release")?;
        let codename = about
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no release")?;
        // What is not released yet has nearly what testing has.
        let known = Self::ALL.into_iter().find(|it| it.codename() == codename);
        Ok(known.unwrap_or(Self::Testing))
    }
}

/// One kernel of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What people say when they mean it.
    pub name: &'static str,
    /// Whose kernel it is.
    pub from: Release,
}

/// All of them, oldest first.
pub const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        from: Release::Bullseye,
    },
    Kernel {
        name: "6.1",
        from: Release::Bookworm,
    },
    Kernel {
        name: "6.12",
        from: Release::Trixie,
    },
    Kernel {
        name: "newest",
        from: Release::Testing,
    },
];

impl Kernel {
    /// The Debian it runs under: its own, unless what was built on `host` needs a newer C library than that has.
    pub fn userland(self, host: Release) -> Release {
        self.from.max(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userlands_are_never_older_than_the_build() {
        let [oldest, .., newest] = KERNELS;
        assert_eq!(oldest.userland(Release::Bookworm), Release::Bookworm);
        assert_eq!(oldest.userland(Release::Bullseye), Release::Bullseye);
        assert_eq!(newest.userland(Release::Bookworm), Release::Testing);
    }
}
