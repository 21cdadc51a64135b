//! Where in the document a value is.

use std::ops::Range;

use super::super::{
    super::{Context, Hint, MaskSet, StandIn, Whole, names},
    Unreadable,
};

/// How deep objects and arrays may be nested.
pub(in super::super) const MAX_DEPTH: usize = 256;
/// How much of a key counts, in bytes.
const MAX_KEY: usize = 256;

/// The objects and arrays around a value.
#[derive(Default)]
pub(super) struct Frames {
    stack: Vec<Frame>,
    /// The (normalised) keys on the way here.
    keys: Vec<u8>,
}

struct Frame {
    is_object: bool,
    /// The current key; an array has its own name.
    key: Range<usize>,
    about: About,
    /// Everything in it is masked as this.
    inherited: Option<Whole>,
    /// The object has a `name` or `key` that is the name of a secret: its `value` is one.
    beside_secret: bool,
}

/// What a key says about its value.
#[derive(Clone, Copy, Default)]
struct About {
    /// A path may end here.
    may_have_rule: bool,
    is_secret: bool,
    hint: Hint,
}

impl Frames {
    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    pub(super) fn is_object(&self) -> bool {
        self.stack.last().is_some_and(|frame| frame.is_object)
    }

    /// An object or an array begins.
    pub(super) fn enter(&mut self, is_object: bool, set: &MaskSet) -> Result<(), Unreadable> {
        if self.stack.len() == MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        let inherited = self.rule(set).filter(|what| !what.guessed);
        let end = self.keys.len();
        let (key, about) = match self.stack.last() {
            Some(parent) if !is_object => (parent.key.clone(), parent.about),
            _ => (end..end, About::default()),
        };
        self.stack.push(Frame {
            is_object,
            key,
            about,
            inherited,
            beside_secret: false,
        });
        Ok(())
    }

    /// It ends.
    pub(super) fn leave(&mut self) {
        if let Some(frame) = self.stack.pop()
            && frame.is_object
        {
            self.keys.truncate(frame.key.start);
        }
    }

    /// An object's next key.
    pub(super) fn key(&mut self, key: &[u8], set: &MaskSet) {
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        self.keys.truncate(frame.key.start);
        names::normalise(&key[..key.len().min(MAX_KEY)], &mut self.keys);
        frame.key.end = self.keys.len();
        let name = &self.keys[frame.key.clone()];
        let fields = &set.base.fields;
        frame.about = About {
            may_have_rule: fields.may_end_in(name),
            is_secret: fields.by_name.is_some() && names::is_secret_field(name),
            hint: Hint::of(name),
        };
    }

    /// The (normalised) name of the value that comes.
    pub(super) fn name(&self) -> &[u8] {
        self.stack
            .last()
            .map_or(&[], |frame| &self.keys[frame.key.clone()])
    }

    pub(super) fn context(&self) -> Context {
        Context {
            hint: self
                .stack
                .last()
                .map_or(Hint::None, |frame| frame.about.hint),
            prose: false,
        }
    }

    /// Remembers what a named value is called.
    pub(super) fn is_beside(&mut self, text: &[u8]) {
        if !matches!(self.name(), b"key" | b"name") || text.len() > MAX_KEY {
            return;
        }
        let mut plain = Vec::with_capacity(text.len());
        names::normalise(text, &mut plain);
        if let Some(frame) = self.stack.last_mut() {
            frame.beside_secret = names::is_secret_field(&plain);
        }
    }

    /// As what the value that comes is masked for where it is.
    pub(super) fn rule(&self, set: &MaskSet) -> Option<Whole> {
        let frame = self.stack.last()?;
        if frame.inherited.is_some() {
            return frame.inherited;
        }
        let fields = &set.base.fields;
        let name = self.name();
        if frame.about.may_have_rule {
            let above = self
                .stack
                .iter()
                .rev()
                .filter(|frame| frame.is_object)
                .skip(1);
            let found = fields.at(name, above.map(|frame| &self.keys[frame.key.clone()]));
            if found.is_some() {
                return found;
            }
        }
        let is_secret = frame.about.is_secret
            || (frame.beside_secret && memchr::memmem::find(name, b"value").is_some());
        let detector = fields.by_name.filter(|_| is_secret)?;
        Some(Whole {
            detector,
            stand_in: StandIn::Token,
            guessed: true,
        })
    }
}
