//! Which address stands for which name in a session.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use crate::{binding, metadata};

/// 198.18.0.0/15 is for benchmarks (RFC 2544, RFC 6890) and not routed: nothing real has such an address.
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// The addresses of one book. Eight times as many are in the network.
const PAGE: u32 = 16 * 1024;
const PAGES: u32 = 8;
/// How many names a session may ask for. What an agent makes us remember has to have an end.
const MOST_NAMES: usize = PAGE as usize - 1;

/// The addresses that one session's names resolve to, and the way back. An address keeps its name for as long as there is the book:
/// that of a daemon that ended is gone, and what clients remember from it means nothing in particular.
#[derive(Debug)]
pub struct AddressBook {
    /// Stands for no name itself; the names' addresses follow it.
    first: Ipv4Addr,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// The name of the address `first + 1 + index`.
    names: Vec<Arc<str>>,
    indices: HashMap<Arc<str>, usize>,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self::after(0)
    }
}

impl AddressBook {
    /// How many names there are.
    pub fn mark(&self) -> usize {
        self.entries
            .lock()
            .expect("no panic while locked")
            .names
            .len()
    }

    /// Forgets the names that came after the mark: those of a job that is over.
    pub fn forget_after(&self, mark: usize) {
        let mut entries = self.entries.lock().expect("no panic while locked");
        entries.names.truncate(mark);
        entries.indices.retain(|_, index| *index < mark);
    }

    /// An empty book for a session that had so many before. It gives out other addresses than the seven before it: to a client that
    /// remembers one of theirs, it must not have come to mean another name.
    #[must_use]
    pub fn after(books: u32) -> Self {
        let page = (books % PAGES) * PAGE;
        Self {
            first: Ipv4Addr::from_bits(NETWORK.to_bits() + page),
            entries: Mutex::default(),
        }
    }

    /// The address of a name (lower case, no dot at its end), from now on if it has none. `None` when the book is full.
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        if is_localhost(name) {
            return Some(Ipv4Addr::LOCALHOST);
        }
        if metadata::NAMES.contains(&name) {
            return Some(metadata::ADDRESS_V4);
        }
        if name == binding::NAME {
            return Some(binding::ADDRESS);
        }
        let mut entries = self.entries.lock().expect("no panic while locked");
        let index = entries.index_of(name)?;
        Some(Ipv4Addr::from_bits(
            self.first.to_bits() + 1 + u32::try_from(index).ok()?,
        ))
    }

    /// The name that an address stands for, if a name was resolved to it in this session.
    pub fn name_of(&self, ip: IpAddr) -> Option<String> {
        if metadata::is_metadata_address(ip) {
            return Some(metadata::NAMES[0].to_owned());
        }
        if binding::is_address(ip) {
            return Some(binding::NAME.to_owned());
        }
        let IpAddr::V4(ip) = ip.to_canonical() else {
            return None;
        };
        let index = ip.to_bits().checked_sub(self.first.to_bits() + 1)?;
        let entries = self.entries.lock().expect("no panic while locked");
        let name = entries.names.get(usize::try_from(index).ok()?)?;
        Some(name.to_string())
    }
}

/// `localhost` and the names below it mean this machine everywhere (RFC 6761, section 6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

impl Entries {
    fn index_of(&mut self, name: &str) -> Option<usize> {
        if let Some(index) = self.indices.get(name) {
            return Some(*index);
        }
        let index = self.names.len();
        if index == MOST_NAMES {
            return None;
        }
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.indices.insert(name, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_address_of_its_own() {
        let book = AddressBook::default();
        let a = book.address_of("a.example").expect("room");
        let b = book.address_of("b.example").expect("room");
        assert_eq!(a, Ipv4Addr::new(198, 18, 0, 1));
        assert_ne!(a, b);
        assert_eq!(book.address_of("a.example"), Some(a), "it stays");
        assert_eq!(book.name_of(a.into()).as_deref(), Some("a.example"));
        assert_eq!(
            book.name_of(b.to_ipv6_mapped().into()).as_deref(),
            Some("b.example")
        );
        for other in [
            "198.18.0.3",
            "0.0.0.0",
            "255.255.255.255",
            "10.0.0.1",
            "::1",
        ] {
            assert_eq!(
                book.name_of(other.parse().expect("an address")),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn some_names_have_fixed_addresses() {
        let book = AddressBook::default();
        assert_eq!(
            book.address_of("metadata.google.internal"),
            Some(metadata::ADDRESS_V4)
        );
        assert_eq!(book.address_of("metadata"), Some(metadata::ADDRESS_V4));
        assert_eq!(book.address_of(binding::NAME), Some(binding::ADDRESS));
        let own = book.name_of(binding::ADDRESS.into());
        assert_eq!(own.as_deref(), Some(binding::NAME));
        assert_eq!(book.address_of("x.localhost"), Some(Ipv4Addr::LOCALHOST));
        for ip in [
            IpAddr::from(metadata::ADDRESS_V4),
            metadata::ADDRESS_V6.into(),
        ] {
            assert_eq!(
                book.name_of(ip).as_deref(),
                Some("metadata.google.internal")
            );
        }
        assert_eq!(book.name_of(Ipv4Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn what_came_after_a_mark_is_forgotten() {
        let book = AddressBook::default();
        let a = book.address_of("a.example").expect("room");
        let mark = book.mark();
        let b = book.address_of("b.example").expect("room");
        book.forget_after(mark);
        assert_eq!(book.name_of(b.into()), None);
        assert_eq!(book.address_of("a.example"), Some(a));
        assert_eq!(book.address_of("c.example"), Some(b), "there is room again");
        assert_eq!(book.name_of(b.into()).as_deref(), Some("c.example"));
    }

    #[test]
    fn eight_books_in_turn_have_no_address_in_common() {
        let network = u64::from(NETWORK.to_bits())..u64::from(NETWORK.to_bits()) + (1 << 17);
        let mut seen = std::collections::HashSet::new();
        for books in 0..PAGES {
            let book = AddressBook::after(books);
            for number in 0..MOST_NAMES {
                let name = format!("n{number}.example");
                let address = book.address_of(&name).expect("room");
                assert!(network.contains(&u64::from(address.to_bits())), "{address}");
                assert!(seen.insert(address), "{address} twice");
                assert_ne!(address, binding::ADDRESS);
                assert_eq!(AddressBook::after(books + 1).name_of(address.into()), None);
            }
        }
        let ninth = AddressBook::after(PAGES).address_of("a.example");
        assert_eq!(ninth, AddressBook::default().address_of("a.example"));
        assert!(
            AddressBook::after(u32::MAX)
                .address_of("a.example")
                .is_some()
        );
    }

    #[test]
    fn a_full_book_keeps_what_it_has() {
        let book = AddressBook::default();
        for number in 0..MOST_NAMES {
            let address = book
                .address_of(&format!("n{number}.example"))
                .expect("room");
            assert!(address.octets()[0] == 198 && (18..20).contains(&address.octets()[1]));
        }
        assert_eq!(book.address_of("one-more.example"), None);
        assert!(book.address_of("n7.example").is_some());
    }
}
