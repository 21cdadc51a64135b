//! What people and the record get to see of a request.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdpoint_core::{
    digest::Digest,
    fields::Fields,
    mask::{Form, MaskSet, Masker},
    operation::{Content, Operation},
};
use serde::{Serialize, de::DeserializeOwned};

use super::Masking;

/// How far a body is read for somebody who is shown its beginning: what is told of one thing may be decided by the next.
const AHEAD: usize = 64 << 10;

/// Bytes of statements that are kept once they are masked, all of them together.
const KEPT: usize = 4 << 20;

/// Masks whatever is stored or shown.
#[derive(Clone)]
pub struct Shown(Arc<MaskSet>, Arc<Mutex<Statements>>);

/// Statements that came before, and how they are shown: clients that bind parameters send the same ones again and again.
#[derive(Default)]
struct Statements {
    shown: HashMap<Box<str>, Arc<str>>,
    bytes: usize,
}

impl Masking {
    /// The masks for whatever is stored or shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        Shown(self.always.clone(), Arc::default())
    }
}

impl Shown {
    /// By the built-in sets alone.
    ///
    /// # Panics
    /// Never: they are there.
    #[cfg(test)]
    #[must_use]
    pub fn plainly() -> Self {
        let masks = holdpoint_core::mask::Masks::new(&[], [0; 32]).expect("the built-in sets");
        let set = masks.union(super::ALWAYS).expect("they are there");
        Self(set, Arc::default())
    }

    /// An operation's digest, from which nobody without the host's key guesses what is in it.
    #[must_use]
    pub fn sealed(&self, digest: &Digest) -> Digest {
        self.0.sealed(digest)
    }

    /// A named value: a header, a parameter, a field.
    #[must_use]
    pub fn value<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        self.0.value(name, value)
    }

    fn statement<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let lock = || self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().shown.get(text).cloned();
        if let Some(shown) = known {
            return as_it_is(text, &shown).unwrap_or_else(|| shown.as_ref().to_owned().into());
        }
        let shown = self.0.shown_statement(text);
        let size = text.len() + shown.len();
        if size <= KEPT / 64 {
            let mut kept = lock();
            if kept.bytes + size > KEPT {
                *kept = Statements::default();
            }
            if kept
                .shown
                .insert(text.into(), shown.as_str().into())
                .is_none()
            {
                kept.bytes += size;
            }
        }
        as_it_is(text, &shown).unwrap_or(Cow::Owned(shown))
    }

    /// A command line: what follows `--name`, or stands behind it and an equals sign, is a value of that name.
    pub fn arguments<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut before = "";
        let mut shown = Vec::new();
        for argument in arguments {
            let option = argument
                .split_once('=')
                .filter(|_| argument.starts_with('-'));
            shown.push(match option {
                Some((name, value)) => {
                    format!("{name}={}", self.value(name.trim_start_matches('-'), value))
                }
                None => self.value(before, argument).into_owned(),
            });
            before = argument.strip_prefix("--").unwrap_or_default();
        }
        shown
    }

    /// The beginning of a body of this type, `limit` bytes at most, and whether there is more of it. What is not what it says it is, is
    /// shown as text.
    #[must_use]
    pub fn body(&self, content_type: Option<&str>, body: &[u8], limit: usize) -> (Vec<u8>, bool) {
        let form = match Form::of(content_type) {
            Form::Opaque => Form::Text,
            form => form,
        };
        let mut masked = self
            .beginning(form, body, limit)
            .or_else(|| self.beginning(Form::Text, body, limit))
            .unwrap_or_default();
        let is_cut = masked.len() > limit || body.len() > limit + AHEAD;
        masked.truncate(limit);
        (masked, is_cut)
    }

    fn beginning(&self, form: Form, body: &[u8], limit: usize) -> Option<Vec<u8>> {
        let mut masked = Vec::new();
        let mut masker = Masker::new(self.0.clone(), form);
        match body.get(..limit + AHEAD) {
            Some(beginning) => masker.push(beginning, &mut masked).ok()?,
            None => {
                masker.push(body, &mut masked).ok()?;
                masker.finish(&mut masked).ok()?;
            }
        }
        Some(masked)
    }

    /// The same data without what is masked in it; `None` where that is no longer data of this type.
    #[must_use]
    pub fn data<T: Serialize + DeserializeOwned>(&self, data: &T) -> Option<T> {
        let json = serde_json::to_vec(data).ok()?;
        let mut masked = Vec::with_capacity(json.len());
        let mut masker = Masker::new(self.0.clone(), Form::Json);
        masker.push(&json, &mut masked).ok()?;
        masker.finish(&mut masked).ok()?;
        serde_json::from_slice(&masked).ok()
    }

    /// The operation as the record may have it; without its digest, which [`Self::sealed`] makes fit to be told.
    #[must_use]
    pub fn operation<'a>(&self, operation: &'a Operation) -> Cow<'a, Operation> {
        let mut masked = Cow::Borrowed(operation);
        for (at, (name, value)) in operation.query.iter().enumerate() {
            if let Cow::Owned(value) = self.value(name, value) {
                masked.to_mut().query[at].1 = value;
            }
        }
        if let Cow::Owned(path) = self.value("", &operation.path) {
            masked.to_mut().path = path;
        }
        if let Cow::Owned(name) = self.value("", &operation.resource.name) {
            masked.to_mut().resource.name = name;
        }
        let fields = match &operation.content {
            Content::Fields(fields)
            | Content::Media {
                metadata: fields, ..
            } => fields,
            Content::Empty | Content::Unreadable(_) => return masked,
        };
        let is_sql = operation.action.service() == "postgres";
        for (path, values) in &fields.0 {
            let name = path.rsplit('.').next().unwrap_or(path);
            for value in values {
                let shown = match is_sql && name == "statement" {
                    true => self.statement(value),
                    false => self.value(name, value),
                };
                if let Cow::Owned(shown) = shown
                    && let Some(fields) = fields_of(&mut masked.to_mut().content)
                    && let Some(values) = fields.0.get_mut(path)
                {
                    values.remove(value);
                    values.insert(shown);
                }
            }
        }
        masked
    }
}

/// `text`, where that is what is shown of it.
fn as_it_is<'a>(text: &'a str, shown: &str) -> Option<Cow<'a, str>> {
    (shown == text).then_some(Cow::Borrowed(text))
}

fn fields_of(content: &mut Content) -> Option<&mut Fields> {
    match content {
        Content::Fields(fields)
        | Content::Media {
            metadata: fields, ..
        } => Some(fields),
        Content::Empty | Content::Unreadable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AIzaSyA-1234567890abcdefghijklmnopqrstu";

    #[test]
    fn command_lines_keep_their_secrets() {
        let header = format!("x-key: {KEY}");
        let command = [
            "tool",
            "--password",
            "hunter2",
            "--client-secret=hunter2",
            "-H",
            &header,
        ];
        let shown = Shown::plainly().arguments(command);
        let text = shown.join(" ");
        assert_eq!(shown.len(), command.len());
        assert!(!text.contains("hunter2") && !text.contains(KEY), "{text}");
        assert!(text.starts_with("tool --password [masked:"), "{text}");
    }

    #[test]
    fn a_statement_is_shown_alike_however_often_it_comes() {
        let shown = Shown::plainly();
        for number in 0..3 {
            for _ in 0..2 {
                let text = format!("ALTER ROLE app PASSWORD 'hunter{number}'");
                let masked = shown.statement(&text);
                assert_eq!(masked, shown.0.shown_statement(&text));
                assert!(!masked.contains("hunter"), "{masked}");
            }
        }
        let long = format!("SELECT {}", "x, ".repeat(KEPT / 300));
        (0..200).for_each(|at| drop(shown.statement(&format!("{long}{at}"))));
        assert!(shown.1.lock().expect("no panics").bytes <= KEPT);
    }

    #[test]
    fn a_cut_body_is_masked_up_to_its_end() {
        let text = format!(r#"{{"a":"{}","key":"{KEY}"}}"#, "x".repeat(200_000));
        let json = Some("application/json");
        let (shown, cut) = Shown::plainly().body(json, text.as_bytes(), 1000);
        assert!(cut && shown.len() == 1000);
        for body in [text.as_bytes(), &text.as_bytes()[..text.len() - 1]] {
            let (shown, cut) = Shown::plainly().body(json, body, 300_000);
            let shown = String::from_utf8(shown).expect("text");
            assert!(!cut && !shown.contains(KEY) && shown.contains("[masked:"));
        }
    }
}
