//! Content codings (RFC 9110, section 8.4) undone and done again, piece by piece and within bounds.

mod deflate;
#[cfg(test)]
mod tests;
mod zstandard;

use std::io::{self, Write};

use http::{HeaderMap, header::CONTENT_ENCODING};

use self::{deflate::Inflate, zstandard::Unpack};
use super::Unreadable;

/// Input is undone in pieces of this many bytes, so that what one of them becomes is seen before the next.
const PIECE: usize = 4 << 10;
/// Bytes that one piece may become.
const MOST_OF_A_PIECE: usize = 8 << 20;
/// Content that has become longer than this may not have grown more than [`MOST_GROWTH`] times.
const SMALL: u64 = 1 << 20;
/// No ordinary text shrinks that much.
const MOST_GROWTH: u64 = 200;
/// Bytes that no message may become.
const MOST: u64 = 4 << 30;
/// Codings upon one another.
const MOST_CODINGS: usize = 3;
/// As fast as it gets: what is compressed again goes over loopback.
const LEVEL: u32 = 1;

/// A coding that Holdpoint can undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 as some servers have it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, in a window of 8 MiB at most (RFC 9659).
    Zstd,
}

impl Coding {
    /// The coding of this name; `None` for identity.
    ///
    /// # Errors
    /// When Holdpoint cannot undo it.
    pub fn named(name: &str) -> Result<Option<Self>, Unreadable> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "br" => Ok(Some(Self::Brotli)),
            "zstd" => Ok(Some(Self::Zstd)),
            other => Err(Unreadable::new(format!(
                "Holdpoint cannot undo the content coding {:?}",
                other.chars().take(40).collect::<String>()
            ))),
        }
    }

    /// Those that a message was put through, in that order.
    ///
    /// # Errors
    /// When Holdpoint cannot undo one of them, or there are more than three.
    pub fn of(headers: &HeaderMap) -> Result<Vec<Self>, Unreadable> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value
                .to_str()
                .map_err(|_| Unreadable::new("its content coding is not text"))?;
            for name in value.split(',') {
                codings.extend(Self::named(name)?);
            }
        }
        if codings.len() > MOST_CODINGS {
            return Err(Unreadable::new("it was compressed too many times over"));
        }
        Ok(codings)
    }
}

/// Undoes codings.
pub struct Decoder {
    /// The last one done is the first one undone.
    steps: Vec<Undo>,
    taken: u64,
    given: u64,
}

enum Undo {
    Gzip(Box<flate2::write::MultiGzDecoder<Sink>>),
    Deflate(Inflate),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(Unpack),
}

impl Decoder {
    /// One that undoes `codings`, which were done in this order.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(codings: &[Coding]) -> Result<Self, Unreadable> {
        let steps = codings.iter().rev().map(|coding| Undo::new(*coding));
        Ok(Self {
            steps: steps.collect::<io::Result<_>>()?,
            taken: 0,
            given: 0,
        })
    }

    /// Appends to `out` what can be told by now.
    ///
    /// # Errors
    /// When it is not well formed, or becomes too much.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        for piece in input.chunks(PIECE) {
            self.taken += piece.len() as u64;
            let mut bytes = piece.to_vec();
            for step in &mut self.steps {
                bytes = step.push(&bytes)?;
            }
            self.give(&bytes, out)?;
        }
        Ok(())
    }

    /// The end of the input.
    ///
    /// # Errors
    /// When it ends too early, or as [`Self::push`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        // Of an answer without content, as to HEAD, there is nothing to undo.
        if self.taken == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for mut step in std::mem::take(&mut self.steps) {
            let mut ended = step.push(&bytes)?;
            ended.extend(step.finish()?);
            bytes = ended;
        }
        self.give(&bytes, out)
    }

    fn give(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.given += bytes.len() as u64;
        let grew_too_much = self.given > SMALL && self.given / self.taken.max(1) > MOST_GROWTH;
        if grew_too_much || self.given > MOST {
            return Err(too_much());
        }
        out.extend_from_slice(bytes);
        Ok(())
    }
}

impl Undo {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                let decoder = flate2::write::MultiGzDecoder::new(Sink::default());
                Self::Gzip(Box::new(decoder))
            }
            Coding::Deflate => Self::Deflate(Inflate::default()),
            Coding::Brotli => {
                let decoder = brotli::DecompressorWriter::new(Sink::default(), PIECE);
                Self::Brotli(Box::new(decoder))
            }
            Coding::Zstd => Self::Zstd(Unpack::new()?),
        })
    }

    fn push(&mut self, input: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut sink = Sink::default();
        for piece in input.chunks(PIECE) {
            match self {
                Self::Gzip(decoder) => {
                    decoder.write_all(piece)?;
                    decoder.flush()?;
                    sink.write_all(&decoder.get_mut().take())?;
                }
                Self::Deflate(decoder) => decoder.push(piece, &mut sink)?,
                Self::Brotli(decoder) => {
                    decoder.write_all(piece)?;
                    sink.write_all(&decoder.get_mut().take())?;
                }
                Self::Zstd(decoder) => decoder.push(piece, &mut sink)?,
            }
        }
        Ok(sink.take())
    }

    fn finish(self) -> Result<Vec<u8>, Unreadable> {
        match self {
            Self::Gzip(decoder) => Ok(decoder.finish()?.take()),
            Self::Deflate(decoder) => decoder.finish().map(|()| Vec::new()),
            Self::Brotli(mut decoder) => {
                decoder.close()?;
                Ok(decoder.get_mut().take())
            }
            Self::Zstd(decoder) => decoder.finish().map(|()| Vec::new()),
        }
    }
}

/// Takes up what one piece becomes, as far as that is bearable.
#[derive(Default)]
struct Sink(Vec<u8>);

impl Sink {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_OF_A_PIECE {
            return Err(io::Error::other("it becomes too much"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_much() -> Unreadable {
    Unreadable::new("it decompresses to far more than any message of its size should")
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::new(format!("it does not decompress: {error}"))
    }
}

/// Does codings.
pub struct Encoder {
    /// In the order they are done.
    steps: Vec<Do>,
}

enum Do {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// One that does `codings` in this order.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(codings: &[Coding]) -> io::Result<Self> {
        let steps = codings.iter().map(|coding| Do::new(*coding));
        Ok(Self {
            steps: steps.collect::<io::Result<_>>()?,
        })
    }

    /// Appends to `out` all that the input becomes: nothing waits for more input.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn push(&mut self, input: Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        if input.is_empty() {
            return Ok(());
        }
        let mut bytes = input;
        for step in &mut self.steps {
            bytes = step.push(&bytes)?;
        }
        append(out, bytes);
        Ok(())
    }

    /// The end of the input.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for mut step in self.steps {
            let mut done = if bytes.is_empty() {
                Vec::new()
            } else {
                step.push(&bytes)?
            };
            done.extend(step.finish()?);
            bytes = done;
        }
        append(out, bytes);
        Ok(())
    }
}

fn append(out: &mut Vec<u8>, bytes: Vec<u8>) {
    if out.is_empty() {
        *out = bytes;
    } else {
        out.extend_from_slice(&bytes);
    }
}

impl Do {
    fn new(coding: Coding) -> io::Result<Self> {
        let level = flate2::Compression::new(LEVEL);
        Ok(match coding {
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Self::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), level)),
            Coding::Brotli => {
                let encoder = brotli::CompressorWriter::new(Vec::new(), PIECE, LEVEL, 18);
                Self::Brotli(Box::new(encoder))
            }
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    fn push(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        macro_rules! through {
            ($encoder:expr) => {{
                $encoder.write_all(input)?;
                $encoder.flush()?;
                Ok(std::mem::take($encoder.get_mut()))
            }};
        }
        match self {
            Self::Gzip(encoder) => through!(encoder),
            Self::Deflate(encoder) => through!(encoder),
            Self::Brotli(encoder) => through!(encoder),
            Self::Zstd(encoder) => through!(encoder),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            // Ends the stream.
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}
