//! Protobuf's wire format, without a schema.

use zeroize::Zeroizing;

use super::{
    super::{Context, StandIn, Whole},
    Unreadable, Worker,
};

/// The longest message, in bytes: four times what gRPC clients receive by default.
const MAX_MESSAGE: usize = 16 << 20;
/// How deep messages may be nested; what is deeper is looked at as bytes.
const MAX_DEPTH: usize = 32;
/// A gRPC message's head: compressed or not, and its length.
const HEAD: usize = 5;
/// gRPC-Web's trailers come as a last message.
const TRAILERS: u8 = 0x80;

/// One message that is the whole body, or gRPC messages one after another. Each is held until it is all there: the lengths around what
/// is masked change with it.
pub(super) struct Messages {
    framed: bool,
    carry: Zeroizing<Vec<u8>>,
}

impl Messages {
    pub(super) fn new(framed: bool) -> Self {
        Self {
            framed,
            carry: Zeroizing::default(),
        }
    }

    pub(super) fn push(
        &mut self,
        mut input: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        while !input.is_empty() {
            let wanted = self.wanted()?;
            let (now, later) = input.split_at(input.len().min(wanted - self.carry.len()));
            self.carry.extend_from_slice(now);
            input = later;
            if self.framed && self.carry.len() >= HEAD && self.carry.len() == self.wanted()? {
                self.message(worker, out)?;
            }
        }
        Ok(())
    }

    /// How long what is held has to become.
    fn wanted(&self) -> Result<usize, Unreadable> {
        if !self.framed {
            // One byte more than a message may have is too many.
            return if self.carry.len() < MAX_MESSAGE {
                Ok(MAX_MESSAGE)
            } else {
                Err(Unreadable::TooLong)
            };
        }
        let Some(head) = self.carry.first_chunk::<HEAD>() else {
            return Ok(HEAD);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).map_err(|_| Unreadable::TooLong)?;
        if length > MAX_MESSAGE {
            return Err(Unreadable::TooLong);
        }
        Ok(HEAD + length)
    }

    pub(super) fn finish(
        &mut self,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        if self.framed {
            return if self.carry.is_empty() {
                Ok(())
            } else {
                Err(Unreadable::Protobuf)
            };
        }
        let message = std::mem::take(&mut self.carry);
        match masked(&message, worker)? {
            Some(masked) => out.extend_from_slice(&masked),
            None => out.extend_from_slice(&message),
        }
        Ok(())
    }

    /// The gRPC message that is held.
    fn message(&mut self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let held = std::mem::take(&mut self.carry);
        let flag = held[0];
        let message = &held[HEAD..];
        let masked = match flag {
            0 => masked(message, worker)?,
            TRAILERS => worker
                .within(message, Context::default())
                .map(Zeroizing::new),
            _ => return Err(Unreadable::Compressed),
        };
        let message = masked.as_deref().map_or(message, Vec::as_slice);
        let length = u32::try_from(message.len()).map_err(|_| Unreadable::TooLong)?;
        out.push(flag);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(message);
        Ok(())
    }
}

/// The message with everything masked; `None` where there is nothing.
fn masked(message: &[u8], worker: &mut Worker) -> Result<Option<Zeroizing<Vec<u8>>>, Unreadable> {
    let fields = fields(message).ok_or(Unreadable::Protobuf)?;
    Ok(rewritten(message, &fields, &mut Vec::new(), worker))
}

/// One field with a length, and where it and its content are.
struct Field {
    number: u32,
    /// Where its tag ends and its length begins.
    length_at: usize,
    content: std::ops::Range<usize>,
}

/// The fields with a length of a message; `None` where it is none.
fn fields(message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut groups: Vec<u32> = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let tag = u32::try_from(varint(message, &mut at)?).ok()?;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        match tag & 7 {
            0 => {
                varint(message, &mut at)?;
            }
            1 => at += 8,
            2 => {
                let length_at = at;
                let length = usize::try_from(varint(message, &mut at)?).ok()?;
                let end = at.checked_add(length).filter(|end| *end <= message.len())?;
                fields.push(Field {
                    number,
                    length_at,
                    content: at..end,
                });
                at = end;
            }
            3 if groups.len() < MAX_DEPTH => groups.push(number),
            4 if groups.pop() == Some(number) => {}
            5 => at += 4,
            _ => return None,
        }
    }
    (at == message.len() && groups.is_empty()).then_some(fields)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `path` are the numbers of the fields that it is in.
fn rewritten(
    message: &[u8],
    fields: &[Field],
    path: &mut Vec<u32>,
    worker: &mut Worker,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut out: Option<Zeroizing<Vec<u8>>> = None;
    let mut from = 0;
    for field in fields {
        path.push(field.number);
        let masked = content(&message[field.content.clone()], path, worker);
        path.pop();
        if let Some(masked) = masked {
            let out = out.get_or_insert_default();
            out.extend_from_slice(&message[from..field.length_at]);
            write_varint(masked.len(), out);
            out.extend_from_slice(&masked);
            from = field.content.end;
        }
    }
    if let Some(out) = &mut out {
        out.extend_from_slice(&message[from..]);
    }
    out
}

/// What has a length may be a message, a string or bytes; nothing says which. It is looked at as a message where it can be read as one,
/// and what comes of that, like everything else, as bytes.
fn content(bytes: &[u8], path: &mut Vec<u32>, worker: &mut Worker) -> Option<Zeroizing<Vec<u8>>> {
    if let Some(detector) = worker.set.base.fields.at_numbers(path) {
        let what = Whole {
            detector,
            stand_in: StandIn::Token,
            guessed: false,
        };
        return worker.whole(what, bytes).map(Zeroizing::new);
    }
    let fields = if path.len() < MAX_DEPTH {
        fields(bytes)
    } else {
        None
    };
    let as_message = fields.and_then(|fields| rewritten(bytes, &fields, path, worker));
    let rest = as_message.as_deref().map_or(bytes, Vec::as_slice);
    let as_bytes = worker.within(rest, Context::default()).map(Zeroizing::new);
    as_bytes.or(as_message)
}
