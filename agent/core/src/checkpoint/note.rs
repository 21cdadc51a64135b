//! Signed notes: a text and signatures of it, as text. <https://c2sp.org/signed-note>
//!
//! Ed25519 (RFC 8032) alone. Keys are written as Go's `golang.org/x/mod/sumdb/note` writes them.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::LONGEST;

/// What follows the text, and what begins a signature's line: an em dash (U+2014) and a blank.
const SIGNATURES: &str = "\n\n\u{2014} ";
const SIGNATURE: &str = "\u{2014} ";
/// Signatures of one note at most.
const MOST_SIGNATURES: usize = 100;
/// The signature type of Ed25519.
const TYPE: u8 = 1;
const SECRET: &str = "PRIVATE+KEY+";

/// Why a note does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is none.
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    /// None of its signatures is of this key.
    #[error("it is not signed with the key {0}")]
    NotSigned(String),
    /// One of its signatures says that it is of this key, and is wrong.
    #[error("its signature is wrong: it was altered, or signed with another key")]
    Wrong,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Its name is empty, or has a blank, a control character or a plus in it.
    #[error("a key's name is not empty, shorter than 256 bytes, and without blanks and plus signs")]
    Name,
    /// It has not the form.
    #[error("it is no key of the form NAME+HASH+KEY (https://c2sp.org/signed-note)")]
    Form,
    /// Its parts do not belong together.
    #[error("it is damaged: its hash is not that of its name and key")]
    Hash,
}

/// The name of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > 255 || text.contains(wrong) {
            return Err(KeyError::Name);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public half of a key. Its text ("vkey") is `NAME+HASH+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: KeyName,
    id: [u8; 4],
    public: [u8; 32],
}

impl Verifier {
    fn new(name: KeyName, public: [u8; 32]) -> Self {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n', TYPE])
            .chain_update(public)
            .finalize();
        let id = [hash[0], hash[1], hash[2], hash[3]];
        Self { name, id, public }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    fn accepts(&self, text: &str, signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = hex::encode(self.id);
        write!(f, "{}+{id}+{}", self.name, encoded(&self.public).as_str())
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, public) = parts(text)?;
        let key = Self::new(name, *public);
        if key.id != id {
            return Err(KeyError::Hash);
        }
        Ok(key)
    }
}

/// A key that signs. Its text is `PRIVATE+KEY+NAME+HASH+SEED`.
pub struct Signer {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    verifier: Verifier,
}

impl Signer {
    /// Made of 32 random bytes.
    ///
    /// # Panics
    /// Never: every seed is a key.
    #[must_use]
    pub fn new(name: KeyName, seed: Zeroizing<[u8; 32]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).expect("every seed is a key");
        let public = pair.public_key().as_ref();
        let public = public.try_into().expect("a public key has 32 bytes");
        let verifier = Verifier::new(name, public);
        Self {
            pair,
            seed,
            verifier,
        }
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The secret, as text.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<String> {
        let Verifier { name, id, .. } = &self.verifier;
        let seed = encoded(&self.seed);
        Zeroizing::new(format!("{SECRET}{name}+{}+{}", hex::encode(id), *seed))
    }

    /// A note of this text, which ends with a newline, with the signature.
    pub(super) fn sign(&self, text: &str) -> String {
        let Verifier { name, id, .. } = &self.verifier;
        let signature = self.pair.sign(text.as_bytes());
        let signature = BASE64_STANDARD.encode([id.as_slice(), signature.as_ref()].concat());
        format!("{text}\n{SIGNATURE}{name} {signature}\n")
    }
}

impl FromStr for Signer {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, seed) = parts(text.strip_prefix(SECRET).ok_or(KeyError::Form)?)?;
        let signer = Self::new(name, seed);
        if signer.verifier.id != id {
            return Err(KeyError::Hash);
        }
        Ok(signer)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

fn encoded(key: &[u8; 32]) -> Zeroizing<String> {
    let mut typed = Zeroizing::new([TYPE; 33]);
    typed[1..].copy_from_slice(key);
    Zeroizing::new(BASE64_STANDARD.encode(typed.as_slice()))
}

/// `NAME+HASH+KEY` taken apart.
#[expect(clippy::type_complexity, reason = "three parts, used in two places")]
fn parts(text: &str) -> Result<(KeyName, [u8; 4], Zeroizing<[u8; 32]>), KeyError> {
    // Base64 has plus signs, names and hashes have none.
    let mut parts = text.splitn(3, '+');
    let mut part = || parts.next().ok_or(KeyError::Form);
    let name = part()?.parse()?;
    let mut id = [0; 4];
    hex::decode_to_slice(part()?, &mut id).map_err(|_| KeyError::Form)?;
    let key = BASE64_STANDARD.decode(part()?);
    let key = Zeroizing::new(key.map_err(|_| KeyError::Form)?);
    match key.split_first() {
        Some((&TYPE, key)) => {
            let key = key.try_into().map_err(|_| KeyError::Form)?;
            Ok((name, id, Zeroizing::new(key)))
        }
        _ => Err(KeyError::Form),
    }
}

/// The text of a note, if it is signed with this key.
pub(super) fn open<'n>(note: &'n str, key: &Verifier) -> Result<&'n str, NoteError> {
    let (text, signatures) = split(note)?;
    let (mut found, mut count) = (false, 0);
    for line in signatures.split_terminator('\n') {
        count += 1;
        if count > MOST_SIGNATURES {
            return Err(NoteError::Malformed("it has too many signatures"));
        }
        let (name, id, signature) = signature(line)?;
        if name != key.name.as_str() || id != key.id {
            continue;
        }
        if !key.accepts(text, &signature) {
            return Err(NoteError::Wrong);
        }
        found = true;
    }
    match found {
        true => Ok(text),
        false => Err(NoteError::NotSigned(key.to_string())),
    }
}

/// The text, with its newline at the end, and the lines of signatures.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > LONGEST {
        return Err(NoteError::Malformed("it is too long"));
    }
    if note.contains(|c: char| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("there are control characters in it"));
    }
    let end = note
        .rfind(SIGNATURES)
        .ok_or(NoteError::Malformed("it has no signature"))?;
    if !note.ends_with('\n') {
        return Err(NoteError::Malformed("it does not end with a newline"));
    }
    Ok((&note[..=end], &note[end + 2..]))
}

/// The name, the key's id and the signature on this line.
fn signature(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let malformed = NoteError::Malformed("one of its signatures has not the form");
    let parsed = || {
        let (name, encoded) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
        KeyName::from_str(name).ok()?;
        let bytes = BASE64_STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk()?;
        (!signature.is_empty()).then(|| (name, *id, signature.to_vec()))
    };
    parsed().ok_or(malformed)
}

/// Takes a file of notes apart, line by line, in the memory of one note.
///
/// The lines of a journal do as well: what follows `note=` on a line is the JSON string of a note.
#[derive(Debug, Default)]
pub struct Notes {
    note: String,
    in_signatures: bool,
}

impl Notes {
    /// The next line, without its newline. Gives the note that ended before it, or that it holds.
    pub fn push(&mut self, line: &str) -> Option<String> {
        if let Some(note) = in_journal(line) {
            return Some(note);
        }
        let signature = line.starts_with(SIGNATURE);
        let ended = self.in_signatures && !signature;
        let done = ended.then(|| std::mem::take(&mut self.note));
        self.in_signatures = signature;
        // Blank lines between notes.
        if !(self.note.is_empty() && line.is_empty()) && self.note.len() <= LONGEST {
            self.note.push_str(line);
            self.note.push('\n');
        }
        done
    }

    /// What is left after the last line: a note, or what is none.
    #[must_use]
    pub fn finish(self) -> Option<String> {
        (!self.note.is_empty()).then_some(self.note)
    }
}

fn in_journal(line: &str) -> Option<String> {
    let (_, string) = line.split_once(JOURNAL)?;
    let mut values = serde_json::Deserializer::from_str(string).into_iter();
    values.next()?.ok()
}

/// What stands in the journal before a note.
const JOURNAL: &str = "note=";

/// A note as it stands in the journal: on one line.
#[must_use]
pub fn on_one_line(note: &str) -> String {
    serde_json::Value::from(note).to_string()
}
