//! `deflate`: with zlib's wrapping, or without it.

use std::io::Write as _;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Sink, Unreadable};

/// Undoes `deflate`. Which of both it is, its first two bytes tell.
#[derive(Default)]
pub struct Inflate {
    first: Vec<u8>,
    stream: Option<Decompress>,
    ended: bool,
}

impl Inflate {
    pub fn push(&mut self, mut input: &[u8], out: &mut Sink) -> Result<(), Unreadable> {
        if self.stream.is_none() {
            let missing = 2 - self.first.len().min(2);
            let (first, rest) = input.split_at(missing.min(input.len()));
            self.first.extend_from_slice(first);
            input = rest;
            let &[method, flags] = self.first.as_slice() else {
                return Ok(());
            };
            self.stream = Some(Decompress::new(is_zlib(method, flags)));
            let first = std::mem::take(&mut self.first);
            self.inflate(&first, out)?;
        }
        self.inflate(input, out)
    }

    fn inflate(&mut self, mut input: &[u8], out: &mut Sink) -> Result<(), Unreadable> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut room = [0; 16 << 10];
        loop {
            if self.ended {
                return match input.is_empty() {
                    true => Ok(()),
                    false => Err(Unreadable::new("something follows its compressed content")),
                };
            }
            let before = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress(input, &mut room, FlushDecompress::None)
                .map_err(|error| Unreadable::new(format!("it does not decompress: {error}")))?;
            let taken = usize::try_from(stream.total_in() - before.0).unwrap_or(input.len());
            let given = usize::try_from(stream.total_out() - before.1).unwrap_or(room.len());
            input = &input[taken..];
            out.write_all(&room[..given])?;
            self.ended = status == Status::StreamEnd;
            if !self.ended && taken == 0 && given == 0 {
                return Ok(());
            }
        }
    }

    pub fn finish(self) -> Result<(), Unreadable> {
        match self.ended {
            true => Ok(()),
            false => Err(Unreadable::new("its compressed content breaks off")),
        }
    }
}

/// RFC 1950, section 2.2: the method is deflate and the check bits agree.
fn is_zlib(method: u8, flags: u8) -> bool {
    method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
}
