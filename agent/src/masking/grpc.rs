//! gRPC's framing (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): messages behind a flag and a length, each
//! compressed by itself. gRPC-Web's is the same, and has trailers in a last frame.

use http::{HeaderMap, HeaderValue};

use super::{
    Unreadable,
    coding::{Coding, Decoder},
};

/// Flag and length.
const PREFIX: usize = 5;
/// Bytes of a message, decompressed too. Clients take 4 MiB unless they are told otherwise.
const MOST_OF_A_MESSAGE: usize = 16 << 20;
const COMPRESSED: u8 = 0x01;

/// How messages are compressed, where any is.
const ENCODING: &str = "grpc-encoding";

/// Whether messages are framed this way.
#[must_use]
pub fn is_grpc(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|it| {
        it.trim_start()
            .get(..16)
            .is_some_and(|start| start.eq_ignore_ascii_case("application/grpc"))
    })
}

/// Finds the messages in a stream.
#[derive(Default)]
struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Gives each message that is whole by now to `each`, with its flag.
    fn push(
        &mut self,
        input: &[u8],
        mut each: impl FnMut(u8, &[u8]) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        self.partial.extend_from_slice(input);
        let mut rest = self.partial.as_slice();
        while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX>() {
            let [flag, a, b, c, d] = *prefix;
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if length > MOST_OF_A_MESSAGE {
                return Err(Unreadable::new(format!(
                    "a gRPC message is longer than the {MOST_OF_A_MESSAGE} bytes that Holdpoint reads"
                )));
            }
            let Some((message, after)) = behind.split_at_checked(length) else {
                break;
            };
            each(flag, message)?;
            rest = after;
        }
        let done = self.partial.len() - rest.len();
        self.partial.drain(..done);
        Ok(())
    }

    fn finish(self) -> Result<(), Unreadable> {
        match self.partial.is_empty() {
            true => Ok(()),
            false => Err(Unreadable::new("its last gRPC message breaks off")),
        }
    }
}

fn append(flag: u8, message: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let length = u32::try_from(message.len())
        .map_err(|_| Unreadable::new("a gRPC message became too long"))?;
    out.push(flag);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    Ok(())
}

/// Undoes the compression of messages; what is then masked needs no compression any more.
pub struct Unpack {
    frames: Frames,
    coding: Option<Coding>,
}

impl Unpack {
    /// For a message with this head.
    ///
    /// # Errors
    /// When its compression is not known.
    pub fn new(headers: &HeaderMap) -> Result<Self, Unreadable> {
        let name = headers.get(ENCODING).map(HeaderValue::to_str);
        let name = name
            .transpose()
            .map_err(|_| Unreadable::new("its grpc-encoding is not text"))?;
        Ok(Self {
            frames: Frames::default(),
            coding: Coding::named(name.unwrap_or_default())?,
        })
    }

    /// Whether any message may be compressed.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.coding.is_some()
    }

    /// Appends the messages that are whole by now.
    ///
    /// # Errors
    /// When one cannot be decompressed, or is too long.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let coding = self.coding;
        self.frames.push(input, |flag, message| {
            if flag & COMPRESSED == 0 {
                return append(flag, message, out);
            }
            let coding = coding.ok_or_else(|| {
                Unreadable::new("a gRPC message is compressed, and nothing says how")
            })?;
            append(flag & !COMPRESSED, &decompressed(coding, message)?, out)
        })
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// When it is in the midst of a message.
    pub fn finish(self) -> Result<(), Unreadable> {
        self.frames.finish()
    }
}

fn decompressed(coding: Coding, message: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut decoder = Decoder::new(&[coding])?;
    let mut plain = Vec::new();
    for piece in message.chunks(64 << 10) {
        decoder.push(piece, &mut plain)?;
        if plain.len() > MOST_OF_A_MESSAGE {
            return Err(Unreadable::new(format!(
                "a gRPC message decompresses to more than the {MOST_OF_A_MESSAGE} bytes that Holdpoint reads"
            )));
        }
    }
    decoder.finish(&mut plain)?;
    Ok(plain)
}
