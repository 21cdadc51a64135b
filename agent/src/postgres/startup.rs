//! The first message of a connection: read, and taken for what it may ask for. No IO.

mod settings;

use zeroize::Zeroizing;

pub use self::settings::Settings;
use super::{
    answer::Complaint,
    cancel::{CancelKey, SECRETS},
};

/// `MAX_STARTUP_PACKET_LENGTH` in PostgreSQL's pqcomm.h, the length itself not counted.
pub const LONGEST: usize = 10_000;

/// Special codes in the place of a version ("Message Formats" in PostgreSQL's manual).
const CANCEL: u32 = (1234 << 16) | 5678;
const SSL: u32 = (1234 << 16) | 5679;
const GSSENC: u32 = (1234 << 16) | 5680;
const MAJOR: u32 = 3;
/// The newest minor version, as PostgreSQL 18 has it. There is no 3.1.
const NEWEST: u16 = 2;

/// What a client begins with.
#[derive(Debug)]
pub enum First {
    /// It wants TLS.
    Ssl,
    /// It wants encryption by GSSAPI.
    Gssenc,
    /// It wants something cancelled.
    Cancel(CancelKey),
    /// It wants to log in.
    Startup(Box<Startup>),
}

/// A version of the protocol: 3 and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// 0 or 2; in what a client offers, anything.
    pub minor: u16,
}

/// What a client wants to log in as, and with which settings.
#[derive(Debug)]
pub struct Startup {
    /// What the client asked for.
    pub offered: Protocol,
    /// What it gets.
    pub protocol: Protocol,
    /// The user it says it is.
    pub user: String,
    /// The database.
    pub database: String,
    /// Settings that it may have.
    pub settings: Settings,
    /// Protocol options that there are none of here.
    pub unknown: Vec<String>,
}

/// Whether these eight bytes, the first of a connection, are a message of PostgreSQL's.
#[must_use]
pub fn is_postgres(first: [u8; 8]) -> bool {
    let (length, code) = head(first);
    match code {
        SSL | GSSENC => length == 8,
        CANCEL => (16..=268).contains(&length),
        version => (9..=LONGEST + 4).contains(&length) && (2..=3).contains(&(version >> 16)),
    }
}

/// How many bytes follow the first eight.
///
/// # Errors
/// When there cannot be as many.
pub fn rest(first: [u8; 8]) -> Result<usize, Complaint> {
    let (length, _) = head(first);
    match length {
        8..=10_004 => Ok(length - 8),
        _ => Err(malformed("invalid length of startup packet")),
    }
}

fn head(first: [u8; 8]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = first;
    let length = u32::from_be_bytes([a, b, c, d]);
    (
        usize::try_from(length).unwrap_or(usize::MAX),
        u32::from_be_bytes([e, f, g, h]),
    )
}

/// What the first message says, of which `rest` follows the first eight bytes.
///
/// # Errors
/// When it is no such message, or asks for what it may not have.
pub fn read(first: [u8; 8], rest: &[u8]) -> Result<First, Complaint> {
    match head(first).1 {
        SSL if rest.is_empty() => Ok(First::Ssl),
        GSSENC if rest.is_empty() => Ok(First::Gssenc),
        SSL | GSSENC => Err(malformed("invalid length of startup packet")),
        CANCEL => read_cancel(rest).map(First::Cancel),
        version if version >> 16 == MAJOR => {
            let minor = u16::try_from(version & 0xffff).unwrap_or(u16::MAX);
            let startup = read_startup(Protocol { minor }, rest)?;
            Ok(First::Startup(Box::new(startup)))
        }
        version => Err(Complaint::new(
            "0A000",
            format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{NEWEST}",
                version >> 16,
                version & 0xffff
            ),
        )),
    }
}

fn read_cancel(rest: &[u8]) -> Result<CancelKey, Complaint> {
    match rest.split_first_chunk() {
        Some((process, secret)) if SECRETS.contains(&secret.len()) => Ok(CancelKey {
            process: i32::from_be_bytes(*process),
            secret: Zeroizing::new(secret.to_vec()),
        }),
        _ => Err(malformed("invalid length of cancel request packet")),
    }
}

fn read_startup(offered: Protocol, rest: &[u8]) -> Result<Startup, Complaint> {
    let (mut user, mut database) = (None, None);
    let mut settings = Settings::default();
    let mut unknown = Vec::new();
    for (name, value) in pairs(rest)? {
        match name {
            "user" => once(&mut user, name, value)?,
            "database" => once(&mut database, name, value)?,
            "options" => settings.take_options(value)?,
            "replication" => refuse_replication(value)?,
            _ if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            _ => settings.take(name, value)?,
        }
    }
    let user = user.filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| {
        Complaint::new(
            "28000",
            "no PostgreSQL user name specified in startup packet",
        )
    })?;
    let database = database.filter(|database| !database.is_empty());
    Ok(Startup {
        offered,
        protocol: Protocol {
            minor: if offered.minor < NEWEST { 0 } else { NEWEST },
        },
        database: database.unwrap_or_else(|| user.clone()),
        user,
        settings,
        unknown,
    })
}

/// Names and values, each ended by a zero byte, and a zero byte.
fn pairs(bytes: &[u8]) -> Result<Vec<(&str, &str)>, Complaint> {
    let broken = || malformed("invalid startup packet layout: expected terminator as last byte");
    let mut texts = Vec::new();
    let mut left = bytes;
    while left != [0] {
        let end = left.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
        let text = str::from_utf8(&left[..end])
            .map_err(|_| malformed("the startup packet is not UTF-8"))?;
        texts.push(text);
        left = &left[end + 1..];
    }
    let (pairs, rest) = texts.as_chunks::<2>();
    if !rest.is_empty() || pairs.iter().any(|[name, _]| name.is_empty()) {
        return Err(broken());
    }
    Ok(pairs.iter().map(|[name, value]| (*name, *value)).collect())
}

/// The last would count, and other readers might take the first.
fn once(place: &mut Option<String>, name: &str, value: &str) -> Result<(), Complaint> {
    match place.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(malformed(&format!(
            "\"{name}\" is in the startup packet twice"
        ))),
    }
}

/// Whoever replicates reads everything, and in no statement.
fn refuse_replication(value: &str) -> Result<(), Complaint> {
    if ["false", "off", "no", "0"].contains(&value.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Complaint::new(
        "0A000",
        "Holdpoint does not pass on replication connections",
    )
    .detail("What goes over them is no SQL that could be judged.")
    .hint("Leave `replication` out, or have this done outside of the session."))
}

fn malformed(problem: &str) -> Complaint {
    Complaint::new("08P01", problem)
}

#[cfg(test)]
mod tests;
