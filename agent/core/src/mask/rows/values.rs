//! One value: looked at, or replaced, by its type.

use std::{net::IpAddr, sync::Arc};

use zeroize::Zeroizing;

use super::{
    super::{
        Context, Found, MaskSet, Unreadable, Whole,
        find::SHORTEST,
        masker::{Json, Worker, may_be_json},
        names,
    },
    fields::Walk,
    kind::Kind,
    literal, number,
    plan::{Plan, by_name, whole},
};

/// Arrays and composites within one another that are looked into.
const MAX_NESTED: usize = 16;

/// A set at work on values.
pub(super) struct Values {
    worker: Worker,
    json: Zeroizing<Vec<u8>>,
}

/// Where a value is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) kind: Kind,
    pub(super) oid: u32,
    pub(super) is_binary: bool,
    pub(super) rule: Option<Whole>,
    pub(super) name: &'a [u8],
    pub(super) context: Context,
    pub(super) nested: usize,
}

impl Values {
    pub(super) fn new(set: Arc<MaskSet>) -> Self {
        Self {
            worker: Worker::new(set),
            json: Zeroizing::default(),
        }
    }

    pub(super) fn found(self) -> Found {
        self.worker.found()
    }

    /// The rule for a value under a key of this (normalised) name.
    pub(super) fn rule_for(&self, name: &[u8]) -> Option<Whole> {
        by_name(&self.worker.set, name, None)
    }

    /// Writes what stands in place of a column's value; `false`, and nothing of use written, where it stays.
    pub(super) fn write(
        &mut self,
        plan: &Plan,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        let place = Place {
            kind: plan.kind,
            oid: plan.oid,
            is_binary: plan.is_binary,
            rule: plan.rule,
            name: &plan.name,
            context: plan.context,
            nested: 0,
        };
        self.at(place, value, out)
    }

    /// The same of a value anywhere.
    pub(super) fn at(
        &mut self,
        place: Place<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        if let Some(walk) = Walk::of(place, value) {
            if place.nested == MAX_NESTED {
                return Err(Unreadable::TooDeep);
            }
            let start = out.len();
            match walk.write(self, place, value, out) {
                // It only looked like one.
                Err(Unreadable::Row) if place.kind == Kind::Unknown => out.truncate(start),
                written => return written,
            }
        }
        match place.rule {
            Some(what) if !what.guessed || may_be_secret(place, value) => {
                self.replace(place, what, value, out)
            }
            _ => self.look(place, value, out),
        }
    }

    /// A value that is masked for where it is.
    fn replace(
        &mut self,
        place: Place<'_>,
        what: Whole,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        match place.kind {
            Kind::Text => Ok(self.token(what, value, out)),
            Kind::Lexemes if !place.is_binary => {
                out.push(b'\'');
                let is_masked = self.token(what, value, out);
                out.push(b'\'');
                Ok(is_masked)
            }
            Kind::Unknown if !place.is_binary => match literal::kind_of_text(value) {
                Some(kind) => self.replace(Place { kind, ..place }, what, value, out),
                None => Ok(self.token(what, value, out)),
            },
            Kind::Unknown if literal::is_text(value) => Ok(self.token(what, value, out)),
            Kind::Lexemes | Kind::Unknown | Kind::Record | Kind::Array { .. } => {
                Err(Unreadable::Unmaskable(place.oid))
            }
            Kind::Json { versioned } => {
                let (version, json) = literal::json(versioned && place.is_binary, value)?;
                out.extend_from_slice(version);
                out.push(b'"');
                let is_masked = self.token(what, json.trim_ascii(), out);
                out.push(b'"');
                Ok(is_masked && json != b"null")
            }
            Kind::Bytea => {
                let bytes = literal::bytes(place.is_binary, value)?;
                let mut token = Vec::new();
                let is_masked = self.token(what, &bytes, &mut token);
                literal::write_bytes(place.is_binary, &token, out);
                Ok(is_masked)
            }
            Kind::Int { .. } | Kind::Float { .. } | Kind::Numeric => {
                let digits = match place.is_binary {
                    true => number::digits(place.kind, value)?.map(String::into_bytes),
                    false => Some(value.to_vec()),
                };
                let number = self
                    .worker
                    .number_for(what.detector, digits.as_deref().unwrap_or(value));
                number::write(place.kind, place.is_binary, number, out);
                Ok(true)
            }
            Kind::Uuid => {
                let text = literal::uuid(place.is_binary, value)?;
                let number = self.worker.number_for(what.detector, text.as_bytes());
                literal::write_uuid(place.is_binary, number, out);
                Ok(true)
            }
            Kind::Inet { is_cidr } => {
                literal::write_inet(place.is_binary, is_cidr, out);
                Ok(self.worker.count(what.detector))
            }
            Kind::Bool => {
                out.push(if place.is_binary { 0 } else { b'f' });
                Ok(self.worker.count(what.detector))
            }
            Kind::Bits => {
                literal::write_bits(place.is_binary, value, out);
                Ok(self.worker.count(what.detector))
            }
            Kind::Constant { text, binary } => {
                out.extend_from_slice(match place.is_binary {
                    true => binary,
                    false => text.as_bytes(),
                });
                Ok(self.worker.count(what.detector))
            }
        }
    }

    fn token(&mut self, what: Whole, value: &[u8], out: &mut Vec<u8>) -> bool {
        let token = self.worker.whole(what, value);
        let is_masked = token.is_some();
        out.extend_from_slice(token.as_deref().unwrap_or(value));
        is_masked
    }

    /// A value that is masked for what is in it.
    fn look(
        &mut self,
        place: Place<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        match place.kind {
            Kind::Text => Ok(self.text(place.context, value, out)),
            Kind::Unknown if !place.is_binary || literal::is_text(value) => {
                Ok(self.text(place.context, value, out))
            }
            Kind::Lexemes if !place.is_binary => Ok(self.text(place.context, value, out)),
            Kind::Unknown | Kind::Lexemes | Kind::Record | Kind::Array { .. } => {
                match self.worker.look(value, Context::default()) {
                    true => Err(Unreadable::Unmaskable(place.oid)),
                    false => Ok(false),
                }
            }
            Kind::Json { versioned } => {
                let (version, json) = literal::json(versioned && place.is_binary, value)?;
                out.extend_from_slice(version);
                Ok(self.json(json, out) || self.plain(Context::default(), json, out))
            }
            Kind::Bytea => self.bytes(place.is_binary, value, out),
            Kind::Int { .. } | Kind::Float { .. } | Kind::Numeric => self.number(place, value, out),
            Kind::Uuid => {
                let text = literal::uuid(place.is_binary, value)?;
                self.or_replace(place, text.as_bytes(), value, out)
            }
            Kind::Inet { .. } => {
                let text = match place.is_binary {
                    true => literal::inet(value)?.map(|address: IpAddr| address.to_string()),
                    false => None,
                };
                let text = text.as_ref().map_or(value, String::as_bytes);
                self.or_replace(place, text, value, out)
            }
            Kind::Bool | Kind::Bits | Kind::Constant { .. } => Ok(false),
        }
    }

    /// Replaces the value if there is something in its text.
    fn or_replace(
        &mut self,
        place: Place<'_>,
        text: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        if !self.worker.look(text, place.context) {
            return Ok(false);
        }
        let Some(detector) = self.worker.hits().first().map(|hit| hit.detector) else {
            return Ok(false);
        };
        self.replace(place, whole(detector, false), value, out)
    }

    fn number(
        &mut self,
        place: Place<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        if !place.is_binary {
            if value.len() < SHORTEST {
                return Ok(false);
            }
            return self.or_replace(place, value, value, out);
        }
        if let Kind::Int { .. } = place.kind
            && literal::is_small(value)
        {
            return Ok(false);
        }
        match number::digits(place.kind, value)? {
            Some(digits) => self.or_replace(place, digits.as_bytes(), value, out),
            None => Ok(false),
        }
    }

    /// Text, which may be JSON.
    fn text(&mut self, context: Context, value: &[u8], out: &mut Vec<u8>) -> bool {
        value.len() >= SHORTEST
            && ((may_be_json(value) && self.json(value, out)) || self.plain(context, value, out))
    }

    fn plain(&mut self, context: Context, value: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.worker.look(value, context) {
            return false;
        }
        self.worker
            .write(value, |part, _| out.extend_from_slice(part));
        true
    }

    /// By the names in it; `false` where nothing is, or it is no JSON.
    fn json(&mut self, value: &[u8], out: &mut Vec<u8>) -> bool {
        self.json.clear();
        let mut json = Json::new(false);
        let worker = &mut self.worker;
        let is_read = json.push(value, worker, &mut self.json).is_ok()
            && json.finish(worker, &mut self.json).is_ok();
        if !is_read || *self.json == value {
            return false;
        }
        let masked = std::mem::take(&mut self.json);
        if !self.plain(Context::default(), &masked, out) {
            out.extend_from_slice(&masked);
        }
        self.json = masked;
        true
    }

    fn bytes(
        &mut self,
        is_binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        if is_binary {
            return Ok(self.text(Context::default(), value, out));
        }
        let bytes = literal::bytes(false, value)?;
        let mut masked = Zeroizing::new(Vec::new());
        let is_masked = self.text(Context::default(), &bytes, &mut masked);
        literal::write_bytes(false, &masked, out);
        Ok(is_masked)
    }
}

/// Whether a value may be what its column's name promises.
fn may_be_secret(place: Place<'_>, value: &[u8]) -> bool {
    match place.kind {
        Kind::Int { .. } | Kind::Numeric => names::is_password(place.name),
        // A number, `true` or `false` by itself says something about the secret; a document or bytes may be it.
        Kind::Text | Kind::Unknown | Kind::Json { .. } => names::may_be_secret(place.name, value),
        _ => !value.is_empty(),
    }
}
