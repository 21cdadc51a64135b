//! What becomes of a body on its way: undone, guarded, masked, done again; and a copy of it for the record.

use bytes::Bytes;
use holdpoint_core::mask::Masker;

use super::{
    Unreadable,
    coding::{Decoder, Encoder},
    grpc,
    injected::Guard,
};
use crate::record::Capture;

/// The stations, in order. Without those that are optional nothing is copied.
pub struct Flow {
    pub(super) undo: Undo,
    pub(super) guard: Guard,
    /// What was found is not overwritten, the body breaks off: it may not be altered, or somebody has the hash of it.
    pub(super) is_untouchable: bool,
    pub(super) mask: Option<Masker>,
    pub(super) encoder: Option<Encoder>,
    pub(super) copy: Option<Copy>,
}

/// How content is made readable.
pub enum Undo {
    /// It is, or nobody wants to read it.
    Nothing,
    /// Content codings.
    Codings(Decoder),
    /// Messages compressed one by one.
    Messages(grpc::Unpack),
}

/// What the record gets.
pub struct Copy {
    pub(super) mask: Masker,
    pub(super) capture: Capture,
}

impl Flow {
    /// What a piece becomes; nothing, as long as that cannot be told.
    ///
    /// # Errors
    /// When it cannot be read and has to be.
    pub fn push(&mut self, piece: Bytes) -> Result<Bytes, Unreadable> {
        let plain = match &mut self.undo {
            Undo::Nothing => piece,
            Undo::Codings(decoder) => undone(|out| decoder.push(&piece, out))?,
            Undo::Messages(unpack) => undone(|out| unpack.push(&piece, out))?,
        };
        let guarded = self.guard.push(plain);
        self.check_guard()?;
        self.go_on(guarded)
    }

    /// What comes at the end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<Bytes, Unreadable> {
        let plain = match std::mem::replace(&mut self.undo, Undo::Nothing) {
            Undo::Nothing => Bytes::new(),
            Undo::Codings(decoder) => undone(|out| decoder.finish(out))?,
            Undo::Messages(unpack) => unpack.finish().map(|()| Bytes::new())?,
        };
        let mut last = Vec::from(self.guard.push(plain));
        last.extend_from_slice(&self.guard.finish());
        self.check_guard()?;
        let mut end = Vec::from(self.go_on(last.into())?);
        let mut masked = Vec::new();
        if let Some(mask) = self.mask.take() {
            mask.finish(&mut masked)?;
        }
        match self.encoder.take() {
            None => end.extend_from_slice(&masked),
            Some(mut encoder) => {
                encoder.push(masked, &mut end)?;
                encoder.finish(&mut end)?;
            }
        }
        if let Some(copy) = self.copy.take() {
            copy.finish();
        }
        Ok(end.into())
    }

    fn go_on(&mut self, guarded: Bytes) -> Result<Bytes, Unreadable> {
        if let Some(copy) = &mut self.copy
            && copy.push(&guarded).is_err()
        {
            // What the record cannot be given without secrets it is not given; its capture says that it is not all.
            self.copy = None;
        }
        let masked = match &mut self.mask {
            None => guarded,
            Some(mask) => undone(|out| Ok(mask.push(&guarded, out)?))?,
        };
        match &mut self.encoder {
            None => Ok(masked),
            Some(encoder) => {
                let mut out = Vec::new();
                encoder.push(masked.into(), &mut out)?;
                Ok(out.into())
            }
        }
    }

    fn check_guard(&self) -> Result<(), Unreadable> {
        match self.is_untouchable && self.guard.found > 0 {
            false => Ok(()),
            true => Err(Unreadable::new(
                "Holdpoint's own credential is in it, and it may not be altered",
            )),
        }
    }
}

impl Copy {
    /// All there is.
    pub fn all(mut self, plain: &[u8]) {
        if self.push(plain).is_ok() {
            self.finish();
        }
    }

    fn push(&mut self, plain: &[u8]) -> Result<(), Unreadable> {
        let mut masked = Vec::with_capacity(plain.len());
        self.mask.push(plain, &mut masked)?;
        if !masked.is_empty() {
            self.capture.push(&masked);
        }
        Ok(())
    }

    fn finish(mut self) {
        let mut masked = Vec::new();
        if self.mask.finish(&mut masked).is_ok() {
            if !masked.is_empty() {
                self.capture.push(&masked);
            }
            self.capture.finish();
        }
    }
}

fn undone(undo: impl FnOnce(&mut Vec<u8>) -> Result<(), Unreadable>) -> Result<Bytes, Unreadable> {
    let mut out = Vec::new();
    undo(&mut out)?;
    Ok(out.into())
}
