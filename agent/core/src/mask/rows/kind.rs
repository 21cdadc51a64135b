//! PostgreSQL's types by what may stand in a value's place. OIDs are those of `pg_type.dat`, which never change.

/// What a type's values are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, the same in both formats.
    Text,
    /// JSON; `jsonb` has a version byte before it in binary.
    Json { versioned: bool },
    /// Bytes: as they are in binary, `\x` and hexadecimal digits (or escapes) in text.
    Bytea,
    /// `smallint`, `integer`, `bigint` and what is one of these: bytes.
    Int { bytes: usize },
    /// `real`, `double precision`: bytes.
    Float { bytes: usize },
    /// `numeric`.
    Numeric,
    /// `uuid`.
    Uuid,
    /// `inet`, `cidr`.
    Inet { is_cidr: bool },
    /// `boolean`.
    Bool,
    /// `bit`, `bit varying`: as long as they are, zeroes.
    Bits,
    /// Nothing can be in it that is looked for; this stands in its place.
    Constant {
        text: &'static str,
        binary: &'static [u8],
    },
    /// An array of these.
    Array { element: u32 },
    /// A composite.
    Record,
    /// `tsvector`, `tsquery`: lexemes in quotes in text.
    Lexemes,
    /// Types of extensions, enumerations, composites: only their text, or the look of their bytes, tells.
    Unknown,
}

use Kind as K;

impl Kind {
    pub(super) fn of(oid: u32) -> Self {
        match oid {
            19 | 25 | 142 | 705 | 1042 | 1043 | 2275 => K::Text,
            114 => K::Json { versioned: false },
            3802 => K::Json { versioned: true },
            17 => K::Bytea,
            21 => K::Int { bytes: 2 },
            23 | 26 | 28 | 29 => K::Int { bytes: 4 },
            20 | 5069 => K::Int { bytes: 8 },
            700 => K::Float { bytes: 4 },
            701 => K::Float { bytes: 8 },
            1700 => K::Numeric,
            2950 => K::Uuid,
            869 => K::Inet { is_cidr: false },
            650 => K::Inet { is_cidr: true },
            16 => K::Bool,
            1560 | 1562 => K::Bits,
            2249 => K::Record,
            3614 | 3615 => K::Lexemes,
            _ => constant(oid)
                .map(|(text, binary)| K::Constant { text, binary })
                .or_else(|| element(oid).map(|element| K::Array { element }))
                .unwrap_or(K::Unknown),
        }
    }

    /// Whether any text may be in it, so that text made of something else may be.
    pub(super) fn carries_text(self) -> bool {
        match self {
            K::Text | K::Json { .. } | K::Bytea | K::Record | K::Lexemes | K::Unknown => true,
            K::Array { element } => Self::of(element).carries_text(),
            _ => false,
        }
    }
}

/// What stands in place of values of types in which nothing is looked for, in text and in binary. Times are 2000-01-01, where PostgreSQL
/// counts from.
fn constant(oid: u32) -> Option<(&'static str, &'static [u8])> {
    const ZEROES: &[u8] = &[0; 32];
    Some(match oid {
        18 => ("*", b"*"),
        790 => ("$0.00", &ZEROES[..8]),
        1082 => ("2000-01-01", &ZEROES[..4]),
        1083 => ("00:00:00", &ZEROES[..8]),
        1114 => ("2000-01-01 00:00:00", &ZEROES[..8]),
        1184 => ("2000-01-01 00:00:00+00", &ZEROES[..8]),
        1186 => ("00:00:00", &ZEROES[..16]),
        1266 => ("00:00:00+00", &ZEROES[..12]),
        829 => ("00:00:00:00:00:00", &ZEROES[..6]),
        774 => ("00:00:00:00:00:00:00:00", &ZEROES[..8]),
        3220 => ("0/0", &ZEROES[..8]),
        600 => ("(0,0)", &ZEROES[..16]),
        601 => ("[(0,0),(0,0)]", ZEROES),
        603 => ("(0,0),(0,0)", ZEROES),
        602 => ("((0,0))", b"\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        604 => ("((0,0))", b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        628 => (
            "{1,0,0}",
            b"\x3f\xf0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        718 => ("<(0,0),0>", &ZEROES[..24]),
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => ("empty", b"\x01"),
        4451 | 4532 | 4533 | 4534 | 4535 | 4536 => ("{}", &ZEROES[..4]),
        _ => return None,
    })
}

/// The type of an array's elements.
fn element(oid: u32) -> Option<u32> {
    Some(match oid {
        143 => 142,
        199 => 114,
        629 => 628,
        651 => 650,
        719 => 718,
        775 => 774,
        791 => 790,
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1017 => 600,
        1018 => 601,
        1019 => 602,
        1021 => 700,
        1022 => 701,
        1027 => 604,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1263 => 2275,
        1270 => 1266,
        1561 => 1560,
        1563 => 1562,
        2287 => 2249,
        2951 => 2950,
        3221 => 3220,
        3643 => 3614,
        3645 => 3615,
        3807 => 3802,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        _ => return None,
    })
}
