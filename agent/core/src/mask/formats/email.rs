//! E-mail addresses of people.

use std::ops::Range;

use super::{run_end, run_start};

/// RFC 5321, section 4.5.3.1.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// Identities of programs, whose addresses look like people's: they name whom an operation runs as, and clients need them.
const MACHINES: [&str; 1] = ["gserviceaccount.com"];
/// Users of services, not people: `git@github.com:owner/repository`.
const SERVICE_USERS: [&str; 1] = ["git"];

/// Calls `emit` for each address.
pub(in super::super) fn find(text: &[u8], mut emit: impl FnMut(Range<usize>)) {
    for at in memchr::memchr_iter(b'@', text) {
        if let Some(found) = around(text, at) {
            emit(found);
        }
    }
}

fn around(text: &[u8], at: usize) -> Option<Range<usize>> {
    let start = run_start(text, at, MAX_LOCAL + 1, is_local);
    let end = run_end(text, at + 1, MAX_DOMAIN + 1, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
    });
    let local = &text[start..at];
    let local = &local[local
        .iter()
        .take_while(|byte| **byte == b'.' || **byte == b'\'')
        .count()..];
    let domain = &text[at + 1..end];
    // A sentence's full stop.
    let domain = &domain[..domain.len()
        - domain
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b'.' | b'-'))
            .count()];
    let is_user = |user: &&str| local.eq_ignore_ascii_case(user.as_bytes());
    if local.is_empty()
        || local.len() > MAX_LOCAL
        || !is_domain(domain)
        || SERVICE_USERS.iter().any(|user| is_user(&user))
    {
        return None;
    }
    Some(at - local.len()..at + 1 + domain.len())
}

/// RFC 5322's `atext` without what surrounds addresses in URLs, paths and code.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'%' | b'\'' | b'~')
        || byte >= 0x80
}

fn is_domain(domain: &[u8]) -> bool {
    let is_machine = MACHINES.iter().any(|machine| {
        let machine = machine.as_bytes();
        domain.len() >= machine.len()
            && domain[domain.len() - machine.len()..].eq_ignore_ascii_case(machine)
    });
    let mut labels = domain.rsplit(|byte| *byte == b'.');
    let top = labels.next().unwrap_or_default();
    let is_top =
        top.len() >= 2 && (top.iter().all(u8::is_ascii_alphabetic) || top.starts_with(b"xn--"));
    let mut below = labels.peekable();
    is_top
        && !is_machine
        && domain.len() <= MAX_DOMAIN
        && below.peek().is_some()
        && below.all(|label| (1..=63).contains(&label.len()) && label[0] != b'-')
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing, found_in},
    };

    #[test]
    fn people() {
        finds(
            B::Email,
            &[
                "jane.doe+x@example.co.uk",
                "a@b.de",
                "o'neill_1@sub.example.com",
                "x@xn--bcher-kva.xn--p1ai",
            ],
        );
        assert_eq!(
            found_in(B::Email, "user:jane@example.com.", Default::default()),
            ["jane@example.com"]
        );
        assert_eq!(
            found_in(B::Email, "mailto:a@b.de,c@d.fr", Default::default()),
            ["a@b.de", "c@d.fr"]
        );
    }

    #[test]
    fn no_people() {
        finds_nothing(
            B::Email,
            &[
                "serviceAccount:x@project.iam.gserviceaccount.com",
                "123-compute@developer.gserviceaccount.com",
                "git@github.com:owner/repository",
                "image@sha256:0123",
                "@types/node@1.0.2",
                "postgres://u:p@localhost/db",
                "a@b",
                "@",
                "@@.com",
                "a@.com",
            ],
        );
    }
}
