//! `zstd`.

use std::io::{self, Write as _};

use zstd::stream::raw::{DParameter, Decoder, Operation as _};

use super::{Sink, Unreadable};

/// RFC 9659: a window of 8 MiB is what a content coding may ask for.
const WINDOW_LOG: u32 = 23;

/// Undoes `zstd`, frame after frame.
pub struct Unpack {
    decoder: Decoder<'static>,
    /// Whether the last frame is whole.
    ended: bool,
}

impl Unpack {
    pub fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self {
            decoder,
            ended: false,
        })
    }

    pub fn push(&mut self, mut input: &[u8], out: &mut Sink) -> Result<(), Unreadable> {
        let mut room = [0; 16 << 10];
        loop {
            let status = self.decoder.run_on_buffers(input, &mut room)?;
            input = &input[status.bytes_read..];
            out.write_all(&room[..status.bytes_written])?;
            self.ended = status.remaining == 0;
            let is_full = status.bytes_written == room.len();
            // What follows a whole frame would be another one.
            let is_done = input.is_empty() && (self.ended || !is_full);
            if is_done || (status.bytes_read == 0 && !is_full) {
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
