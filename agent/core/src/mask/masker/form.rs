//! `a=b&c=d` (the URL standard's `application/x-www-form-urlencoded`).

use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use zeroize::Zeroizing;

use super::{super::Context, LONGEST, Unreadable, Worker};

/// Pair by pair; a pair is held until it is all there.
#[derive(Default)]
pub(super) struct Pairs {
    carry: Zeroizing<Vec<u8>>,
}

impl Pairs {
    pub(super) fn push(
        &mut self,
        mut input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        while let Some(end) = memchr::memchr(b'&', input) {
            self.hold(&input[..end])?;
            self.pair(worker, out);
            out.push(b'&');
            input = &input[end + 1..];
        }
        self.hold(input)
    }

    pub(super) fn finish(&mut self, worker: &mut Worker, out: &mut Vec<u8>) {
        self.pair(worker, out);
    }

    fn hold(&mut self, input: &[u8]) -> Result<(), Unreadable> {
        if self.carry.len() + input.len() > LONGEST {
            return Err(Unreadable::TooLong);
        }
        self.carry.extend_from_slice(input);
        Ok(())
    }

    fn pair(&mut self, worker: &mut Worker, out: &mut Vec<u8>) {
        let pair = std::mem::take(&mut self.carry);
        let equals = memchr::memchr(b'=', &pair);
        let name = &pair[..equals.unwrap_or(pair.len())];
        let plain_name = decoded(name);
        match worker.within(&plain_name, Context::default()) {
            Some(masked) => encode(&masked, out),
            None => out.extend_from_slice(name),
        }
        if let Some(equals) = equals {
            out.push(b'=');
            let value = &pair[equals + 1..];
            match worker.value(&String::from_utf8_lossy(&plain_name), &decoded(value)) {
                Some(masked) => encode(&masked, out),
                None => out.extend_from_slice(value),
            }
        }
    }
}

fn decoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let spaced: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect(),
    );
    Zeroizing::new(percent_decode(&spaced).collect())
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    percent_encode(text, NON_ALPHANUMERIC).for_each(|part| out.extend_from_slice(part.as_bytes()));
}
