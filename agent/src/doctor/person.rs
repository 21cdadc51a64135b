//! The user that attacks run as.

use anyhow::Context as _;
use nix::unistd::{Uid, User};

/// An unprivileged user of this host.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Person {
    /// The user of this name or number.
    ///
    /// # Errors
    /// When there is none, or it is root.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let user = match name.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(name),
        };
        let user = user
            .with_context(|| format!("cannot look up the user {name}"))?
            .with_context(|| format!("there is no user {name}: name another with --user"))?;
        anyhow::ensure!(
            !user.uid.is_root(),
            "root is not taken into a session, so attacks are not tried as root: name another user with --user"
        );
        Ok(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_not_taken() {
        assert!(Person::named("root").is_err());
        assert!(Person::named("0").is_err());
        assert!(Person::named("no-such-user").is_err());
        assert_eq!(Person::named("65534").expect("nobody").uid, 65534);
    }
}
