//! What has arrived where nothing of a sandbox may arrive.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// The marks that listeners have seen. Clones share them.
#[derive(Clone)]
pub struct Seen {
    /// What all marks of this run of the doctor begin with.
    run: Arc<str>,
    marks: Arc<Mutex<BTreeSet<String>>>,
}

impl Seen {
    /// Of marks that begin with `run`.
    pub fn of(run: &str) -> Self {
        Self {
            run: run.into(),
            marks: Arc::default(),
        }
    }

    /// Notes every mark in these bytes.
    pub fn note(&self, bytes: &[u8]) {
        let run = self.run.as_bytes();
        let starts = bytes.windows(run.len()).enumerate();
        for (start, _) in starts.filter(|(_, window)| *window == run) {
            let mark = bytes[start..].iter().take_while(|byte| is_mark(**byte));
            let mark: String = mark.map(|byte| char::from(*byte)).collect();
            self.marks
                .lock()
                .expect("no panic while locked")
                .insert(mark);
        }
    }

    /// Whether this mark was seen.
    pub fn has(&self, mark: &str) -> bool {
        self.marks
            .lock()
            .expect("no panic while locked")
            .contains(mark)
    }
}

fn is_mark(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mark_is_found_in_a_packet() {
        let seen = Seen::of("hp0");
        seen.note(b"\0\x0c\x01hp0u-dns-tcp\x3f\x09 hp0i-udp4\n hp1u-no");
        assert!(seen.has("hp0u-dns-tcp") && seen.has("hp0i-udp4"));
        assert!(!seen.has("hp0u-dns") && !seen.has("hp1u-no"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            Seen::of("a").note(&bytes);
        }
    }
}
