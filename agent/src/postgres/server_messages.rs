//! What the server says, as far as it matters to who passes it on; and what Holdpoint says in its place.

use bytes::{BufMut as _, Bytes, BytesMut};
use holdpoint_core::refusal::{Kind, Refusal};

use super::frame::{Fields, FrameError, put, put_text};

/// SQLSTATE `insufficient_privilege`.
const DENIED: &str = "42501";
/// SQLSTATE `query_canceled`.
const CANCELLED: &str = "57014";
/// SQLSTATE `idle_in_transaction_session_timeout`: what a client knows for a transaction that took too long and was ended.
const TOO_LONG: &str = "25P03";
/// SQLSTATE `connection_failure`.
pub const BROKEN: &str = "08006";
/// SQLSTATE `protocol_violation`.
pub const VIOLATION: &str = "08P01";
/// SQLSTATE `program_limit_exceeded`.
pub const TOO_LARGE: &str = "54000";
/// SQLSTATE `feature_not_supported`.
pub const UNSUPPORTED: &str = "0A000";
/// SQLSTATE `invalid_parameter_value`.
const INVALID: &str = "22023";
/// SQLSTATE `system_error`: Holdpoint itself could not do its part.
const NOT_READY: &str = "58000";

/// An ErrorResponse or a NoticeResponse.
pub struct Complaint<'a> {
    /// `ERROR`, `FATAL` or `NOTICE`.
    pub severity: &'a str,
    /// SQLSTATE.
    pub code: &'a str,
    /// What happened.
    pub message: &'a str,
    /// Why.
    pub detail: &'a str,
    /// What to do.
    pub hint: &'a str,
}

impl Complaint<'_> {
    /// As a message.
    #[must_use]
    pub fn message(&self) -> Bytes {
        let tag = if self.severity == "NOTICE" {
            b'N'
        } else {
            b'E'
        };
        let mut out = BytesMut::new();
        put(&mut out, tag, |body| {
            let fields = [
                (b'S', self.severity),
                (b'V', self.severity),
                (b'C', self.code),
                (b'M', self.message),
                (b'D', self.detail),
                (b'H', self.hint),
            ];
            for (kind, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
                body.put_u8(kind);
                put_text(body, text);
            }
            body.put_u8(0);
        });
        out.freeze()
    }
}

/// What a client is told of a refusal; `too_long`: it was held in an open transaction for as long as that may be.
#[must_use]
pub fn refused(refusal: &Refusal, session: &str, too_long: bool) -> Bytes {
    let code = match refusal.kind {
        _ if too_long => TOO_LONG,
        Kind::CalledOff => CANCELLED,
        Kind::NotReady => NOT_READY,
        Kind::Malformed => INVALID,
        Kind::Upstream => BROKEN,
        Kind::Denied
        | Kind::OtherWay
        | Kind::Pending
        | Kind::UsedByResend
        | Kind::Withheld
        | Kind::MaskToken => DENIED,
    };
    let facts: Vec<_> = refusal
        .facts()
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let approval = refusal.facts().iter().find(|(name, _)| *name == "approval");
    let hint = match (approval, refusal.kind) {
        (Some((_, id)), Kind::Pending) if too_long => format!(
            "The transaction was rolled back, because others may have waited for its locks. Once approval {id} is given, run all of it \
             again. Holdpoint session {session}."
        ),
        (Some((_, id)), Kind::Pending) => {
            format!("Once approval {id} is given, run it again. Holdpoint session {session}.")
        }
        (Some((_, id)), _) => format!("Approval {id}, Holdpoint session {session}."),
        (None, Kind::Denied) => format!(
            "`holdpoint policy explain {session}` tells the operator why. Holdpoint session {session}."
        ),
        (None, _) => format!("Holdpoint session {session}."),
    };
    Complaint {
        severity: "ERROR",
        code,
        message: &refusal.message,
        detail: &facts.join("; "),
        hint: &hint,
    }
    .message()
}

/// That a statement waits for people.
#[must_use]
pub fn held(message: &str, approval: &str, session: &str) -> Bytes {
    Complaint {
        severity: "NOTICE",
        code: "00000",
        message,
        detail: &format!("approval: {approval}"),
        hint: &format!(
            "It runs as soon as it is approved: `holdpoint approvals show {approval}`. Holdpoint session {session}."
        ),
    }
    .message()
}

/// ReadyForQuery.
#[must_use]
pub fn ready(status: u8) -> [u8; 6] {
    [b'Z', 0, 0, 0, 5, status]
}

/// EmptyQueryResponse.
pub const EMPTY_QUERY: [u8; 5] = [b'I', 0, 0, 0, 4];

/// The field of an error or a notice, by its letter.
///
/// # Errors
/// When it is none.
pub fn field(body: &[u8], wanted: u8) -> Result<Option<String>, FrameError> {
    let mut fields = Fields(body);
    loop {
        match fields.byte()? {
            0 => return Ok(None),
            kind => {
                let text = fields.c_string()?;
                if kind == wanted {
                    return Ok(Some(String::from_utf8_lossy(text).into_owned()));
                }
            }
        }
    }
}

/// One column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As the result calls it.
    pub name: String,
    /// The table it comes from; 0 where it is computed.
    pub table: u32,
    /// The column's number in the table.
    pub attribute: i16,
    /// Its type.
    pub type_oid: u32,
    /// 0 is text, 1 is binary.
    pub format: i16,
}

/// The columns of a RowDescription.
///
/// # Errors
/// When it is none.
pub fn described(body: &[u8]) -> Result<Vec<Described>, FrameError> {
    let mut fields = Fields(body);
    let count = fields.count()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(fields.c_string()?).into_owned();
        let table = fields.int32()?.cast_unsigned();
        let attribute = fields.int16()?;
        let type_oid = fields.int32()?.cast_unsigned();
        fields.int16()?;
        fields.int32()?;
        columns.push(Described {
            name,
            table,
            attribute,
            type_oid,
            format: fields.int16()?,
        });
    }
    fields.end()?;
    Ok(columns)
}
