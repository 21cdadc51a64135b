//! Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md): what Parquet's own
//! structures are written in.

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A structure in the making. Fields are added in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    pub(super) fn i32(&mut self, field: u8, value: i32) {
        self.field(field, I32);
        zigzag(&mut self.bytes, value.into());
    }

    pub(super) fn i64(&mut self, field: u8, value: i64) {
        self.field(field, I64);
        zigzag(&mut self.bytes, value);
    }

    pub(super) fn text(&mut self, field: u8, text: &str) {
        self.field(field, BINARY);
        binary(&mut self.bytes, text);
    }

    pub(super) fn i32s(&mut self, field: u8, values: &[i32]) {
        self.list(field, I32, values.len());
        for value in values {
            zigzag(&mut self.bytes, (*value).into());
        }
    }

    pub(super) fn texts(&mut self, field: u8, texts: &[&str]) {
        self.list(field, BINARY, texts.len());
        for text in texts {
            binary(&mut self.bytes, text);
        }
    }

    pub(super) fn structs(&mut self, field: u8, structs: &[Self]) {
        self.list(field, STRUCT, structs.len());
        for one in structs {
            self.bytes.extend_from_slice(&one.bytes);
            self.bytes.push(0);
        }
    }

    pub(super) fn inner(&mut self, field: u8, inner: &Self) {
        self.field(field, STRUCT);
        self.bytes.extend_from_slice(&inner.bytes);
        self.bytes.push(0);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }

    /// Numbers of fields are told by how far they are from the one before, 15 at most.
    fn field(&mut self, field: u8, kind: u8) {
        debug_assert!(field > self.last && field - self.last <= 15);
        self.bytes.push((field - self.last) << 4 | kind);
        self.last = field;
    }

    fn list(&mut self, field: u8, kind: u8, length: usize) {
        self.field(field, LIST);
        match u8::try_from(length) {
            Ok(length @ 0..15) => self.bytes.push(length << 4 | kind),
            _ => {
                self.bytes.push(0xf0 | kind);
                varint(&mut self.bytes, length as u64);
            }
        }
    }
}

fn binary(bytes: &mut Vec<u8>, text: &str) {
    varint(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

fn zigzag(bytes: &mut Vec<u8>, value: i64) {
    varint(bytes, (value << 1 ^ value >> 63).cast_unsigned());
}

/// Seven bits a byte, the lowest first (LEB128).
pub(super) fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}
