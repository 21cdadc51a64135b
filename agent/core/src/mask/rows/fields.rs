//! Values that are made of others: arrays, composites, `hstore`. What is in them is masked by itself.

use zeroize::Zeroizing;

use super::{
    super::{Context, Unreadable, columns, find::SHORTEST},
    binary,
    kind::Kind,
    literal,
    values::{Place, Values},
};

/// How a value is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Array,
    TextArray { element: u32 },
    Record,
    TextRecord,
    Hstore,
    TextHstore,
}

/// Dimensions an array may have (PostgreSQL's MAXDIM).
const MAX_DIMENSIONS: i32 = 6;
/// Columns a composite may have (PostgreSQL's MaxTupleAttributeNumber).
const MAX_COLUMNS: i32 = 1664;
/// `box`, the one type whose values are divided by `;` in arrays.
const BOX: u32 = 603;

impl Walk {
    /// By the type; by its look where the type is not known.
    pub(super) fn of(place: Place<'_>, value: &[u8]) -> Option<Self> {
        match (place.kind, place.is_binary) {
            (Kind::Array { .. }, true) => Some(Self::Array),
            (Kind::Array { element }, false) => Some(Self::TextArray { element }),
            (Kind::Record, true) => Some(Self::Record),
            (Kind::Record, false) => Some(Self::TextRecord),
            (Kind::Unknown, true) if !literal::is_text(value) || value.len() < SHORTEST => {
                Self::by_bytes(value)
            }
            (Kind::Unknown, false) => match value {
                [b'{', .., b'}'] => Some(Self::TextArray { element: 0 }),
                [b'(', .., b')'] => Some(Self::TextRecord),
                [b'"', ..] if memchr::memmem::find(value, b"\"=>").is_some() => {
                    Some(Self::TextHstore)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn by_bytes(value: &[u8]) -> Option<Self> {
        [Self::Record, Self::Hstore, Self::Array]
            .into_iter()
            .find(|walk| walk.fits(value).is_ok())
    }

    /// Whether the bytes can be read like that to their end.
    fn fits(self, value: &[u8]) -> Result<(), Unreadable> {
        let mut rest = match self {
            Self::Array => array(value)?.2,
            _ => value,
        };
        let (count, fields) = match self {
            Self::Array => (array(value)?.1, 1),
            Self::Record => {
                let (count, after) = binary::int(value)?;
                rest = after;
                if count > MAX_COLUMNS {
                    return Err(Unreadable::Row);
                }
                (count, 1)
            }
            _ => {
                let (count, after) = binary::int(value)?;
                rest = after;
                (count, 2)
            }
        };
        let count = usize::try_from(count).map_err(|_| Unreadable::Row)?;
        for _ in 0..count.saturating_mul(fields) {
            if self == Self::Record {
                rest = binary::int(rest)?.1;
            }
            rest = binary::value(rest)?.1;
        }
        rest.is_empty().then_some(()).ok_or(Unreadable::Row)
    }

    pub(super) fn write(
        self,
        values: &mut Values,
        place: Place<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        let place = Place {
            nested: place.nested + 1,
            ..place
        };
        let mut writing = Writing { values, place, out };
        match self {
            Self::Array => writing.array(value),
            Self::Record => writing.record(value),
            Self::Hstore => writing.hstore(value),
            Self::TextArray { element } => writing.text_array(element, value),
            Self::TextRecord => writing.text_record(value),
            Self::TextHstore => writing.text_hstore(value),
        }
    }
}

/// An array's element type, how many elements it has, and what is behind its head.
fn array(value: &[u8]) -> Result<(u32, i32, &[u8]), Unreadable> {
    let (dimensions, rest) = binary::int(value)?;
    let (flags, rest) = binary::int(rest)?;
    let (element, mut rest) = binary::int(rest)?;
    if !(0..=MAX_DIMENSIONS).contains(&dimensions) || !(0..=1).contains(&flags) {
        return Err(Unreadable::Row);
    }
    let mut count = i32::from(dimensions > 0);
    for _ in 0..dimensions {
        let (length, after) = binary::int(rest)?;
        rest = binary::int(after)?.1;
        count = count.checked_mul(length).ok_or(Unreadable::Row)?;
    }
    Ok((element.cast_unsigned(), count, rest))
}

struct Writing<'a, 'n> {
    values: &'a mut Values,
    place: Place<'n>,
    out: &'a mut Vec<u8>,
}

impl<'n> Writing<'_, 'n> {
    /// A value behind its length. Returns what is after it, and whether it was masked.
    fn field<'v>(
        &mut self,
        place: Place<'_>,
        at: &'v [u8],
    ) -> Result<(&'v [u8], bool), Unreadable> {
        let (value, rest) = binary::value(at)?;
        let raw = &at[..at.len() - rest.len()];
        let Some(value) = value else {
            self.out.extend_from_slice(raw);
            return Ok((rest, false));
        };
        let start = self.out.len();
        let values = &mut *self.values;
        let is_masked = binary::with_length(self.out, |out| values.at(place, value, out))?;
        if !is_masked {
            self.out.truncate(start);
            self.out.extend_from_slice(raw);
        }
        Ok((rest, is_masked))
    }

    fn of_type(&self, oid: u32) -> Place<'n> {
        Place {
            kind: Kind::of(oid),
            oid,
            ..self.place
        }
    }

    fn array(&mut self, value: &[u8]) -> Result<bool, Unreadable> {
        let (element, count, mut rest) = array(value)?;
        self.out
            .extend_from_slice(&value[..value.len() - rest.len()]);
        let place = self.of_type(element);
        let mut is_masked = false;
        for _ in 0..count {
            let (after, masked) = self.field(place, rest)?;
            rest = after;
            is_masked |= masked;
        }
        ended(rest, is_masked)
    }

    fn record(&mut self, value: &[u8]) -> Result<bool, Unreadable> {
        let (count, mut rest) = binary::int(value)?;
        self.out.extend_from_slice(&value[..4]);
        let mut is_masked = false;
        for _ in 0..count {
            let (oid, after) = binary::int(rest)?;
            self.out.extend_from_slice(&rest[..4]);
            let (after, masked) = self.field(self.of_type(oid.cast_unsigned()), after)?;
            rest = after;
            is_masked |= masked;
        }
        ended(rest, is_masked)
    }

    fn hstore(&mut self, value: &[u8]) -> Result<bool, Unreadable> {
        let (count, mut rest) = binary::int(value)?;
        self.out.extend_from_slice(&value[..4]);
        let mut is_masked = false;
        for _ in 0..count {
            let key = binary::value(rest)?.0.ok_or(Unreadable::Row)?;
            let (after, in_key) = self.field(self.key(), rest)?;
            let name = name(key);
            let (after, in_value) = self.field(self.under(&name), after)?;
            rest = after;
            is_masked |= in_key | in_value;
        }
        ended(rest, is_masked)
    }

    /// Where a key of an `hstore` is.
    fn key(&self) -> Place<'static> {
        Place {
            kind: Kind::Text,
            oid: 25,
            is_binary: false,
            rule: None,
            name: b"",
            context: Context::default(),
            nested: self.place.nested,
        }
    }

    /// Where its value is.
    fn under<'k>(&self, name: &'k [u8]) -> Place<'k> {
        Place {
            rule: self
                .place
                .rule
                .filter(|what| !what.guessed)
                .or_else(|| self.values.rule_for(name)),
            name,
            ..self.key()
        }
    }

    fn text_array(&mut self, element: u32, value: &[u8]) -> Result<bool, Unreadable> {
        let place = self.of_type(element);
        let divider = if element == BOX { b';' } else { b',' };
        let start = memchr::memchr(b'{', value).ok_or(Unreadable::Row)?;
        let (bounds, mut rest) = value.split_at(start);
        if !bounds.is_empty() && !bounds.ends_with(b"=") {
            return Err(Unreadable::Row);
        }
        self.out.extend_from_slice(bounds);
        let (mut depth, mut is_masked, mut wants_value) = (0_usize, false, true);
        while let Some(byte) = rest.first() {
            match byte {
                b'{' if wants_value => depth += 1,
                b'}' => {
                    depth = depth.checked_sub(1).ok_or(Unreadable::Row)?;
                    wants_value = false;
                }
                byte if *byte == divider && depth > 0 => wants_value = true,
                _ if depth == 0 || !wants_value => return Err(Unreadable::Row),
                b'"' => {
                    let (after, masked) = self.quoted(place, rest, Quoting::Escaped)?;
                    (rest, wants_value) = (after, false);
                    is_masked |= masked;
                    continue;
                }
                _ => {
                    let ends = |byte: &u8| matches!(byte, b'{' | b'}' | b'"') || *byte == divider;
                    let end = rest.iter().position(ends).ok_or(Unreadable::Row)?;
                    let (element, after) = rest.split_at(end);
                    let is_null = element.eq_ignore_ascii_case(b"NULL");
                    is_masked |= self.bare(place, element, is_null, Quoting::Escaped)?;
                    (rest, wants_value) = (after, false);
                    continue;
                }
            }
            self.out.push(*byte);
            rest = &rest[1..];
        }
        (depth == 0).then_some(is_masked).ok_or(Unreadable::Row)
    }

    fn text_record(&mut self, value: &[u8]) -> Result<bool, Unreadable> {
        let place = self.of_type(0);
        let mut rest = value.strip_prefix(b"(").ok_or(Unreadable::Row)?;
        self.out.push(b'(');
        let mut is_masked = false;
        loop {
            if rest.first() == Some(&b'"') {
                let (after, masked) = self.quoted(place, rest, Quoting::Doubled)?;
                rest = after;
                is_masked |= masked;
            } else {
                let end = memchr::memchr3(b',', b')', b'"', rest).ok_or(Unreadable::Row)?;
                let (field, after) = rest.split_at(end);
                is_masked |= self.bare(place, field, field.is_empty(), Quoting::Doubled)?;
                rest = after;
            }
            let (divider, after) = rest.split_first().ok_or(Unreadable::Row)?;
            self.out.push(*divider);
            rest = after;
            match divider {
                b',' => {}
                b')' => return ended(rest, is_masked),
                _ => return Err(Unreadable::Row),
            }
        }
    }

    fn text_hstore(&mut self, value: &[u8]) -> Result<bool, Unreadable> {
        let (mut rest, mut is_masked) = (value, false);
        loop {
            let (key, _) = unquoted(rest, Quoting::Escaped)?;
            let name = name(&key);
            let (after, in_key) = self.quoted(self.key(), rest, Quoting::Escaped)?;
            rest = after.strip_prefix(b"=>").ok_or(Unreadable::Row)?;
            self.out.extend_from_slice(b"=>");
            is_masked |= in_key;
            if let Some(after) = rest.strip_prefix(b"NULL") {
                self.out.extend_from_slice(b"NULL");
                rest = after;
            } else {
                let (after, masked) = self.quoted(self.under(&name), rest, Quoting::Escaped)?;
                rest = after;
                is_masked |= masked;
            }
            if rest.is_empty() {
                return Ok(is_masked);
            }
            rest = rest.strip_prefix(b", ").ok_or(Unreadable::Row)?;
            self.out.extend_from_slice(b", ");
        }
    }

    /// A value in quotes at the start.
    fn quoted<'v>(
        &mut self,
        place: Place<'_>,
        at: &'v [u8],
        quoting: Quoting,
    ) -> Result<(&'v [u8], bool), Unreadable> {
        let (value, rest) = unquoted(at, quoting)?;
        let mut masked = Zeroizing::new(Vec::new());
        let is_masked = self.values.at(place, &value, &mut masked)?;
        match is_masked {
            true => quoting.write(&masked, self.out),
            false => self.out.extend_from_slice(&at[..at.len() - rest.len()]),
        }
        Ok((rest, is_masked))
    }

    /// A value without quotes.
    fn bare(
        &mut self,
        place: Place<'_>,
        value: &[u8],
        is_null: bool,
        quoting: Quoting,
    ) -> Result<bool, Unreadable> {
        let mut masked = Zeroizing::new(Vec::new());
        let is_masked = !is_null && self.values.at(place, value, &mut masked)?;
        match is_masked {
            true => quoting.write(&masked, self.out),
            false => self.out.extend_from_slice(value),
        }
        Ok(is_masked)
    }
}

fn ended(rest: &[u8], is_masked: bool) -> Result<bool, Unreadable> {
    rest.is_empty().then_some(is_masked).ok_or(Unreadable::Row)
}

fn name(key: &[u8]) -> Vec<u8> {
    columns::normalised(&String::from_utf8_lossy(key))
}

/// How quotes are written within quotes.
#[derive(Clone, Copy)]
enum Quoting {
    /// `\"`, in arrays and `hstore`.
    Escaped,
    /// `""`, in composites.
    Doubled,
}

impl Quoting {
    fn write(self, value: &[u8], out: &mut Vec<u8>) {
        out.push(b'"');
        for byte in value {
            match (byte, self) {
                (b'"' | b'\\', Self::Escaped) => out.push(b'\\'),
                (b'"' | b'\\', Self::Doubled) => out.push(*byte),
                _ => {}
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
}

/// The value in the quotes at the start, and what is after it.
fn unquoted(at: &[u8], quoting: Quoting) -> Result<(Zeroizing<Vec<u8>>, &[u8]), Unreadable> {
    let mut rest = at.strip_prefix(b"\"").ok_or(Unreadable::Row)?;
    let mut value = Zeroizing::new(Vec::new());
    loop {
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or(Unreadable::Row)?;
        value.extend_from_slice(&rest[..end]);
        rest = match (&rest[end..], quoting) {
            ([b'\\', next, after @ ..], _)
            | ([b'"', next @ b'"', after @ ..], Quoting::Doubled) => {
                value.push(*next);
                after
            }
            ([b'"', after @ ..], _) => return Ok((value, after)),
            _ => return Err(Unreadable::Row),
        };
    }
}
