//! Strings that are longer than is looked at together.

use zeroize::Zeroizing;

use super::{
    super::{
        super::{Context, Whole},
        Unreadable, Worker,
        stretch::{Stretches, WholeValue},
    },
    escape::{self, Unescape},
};

/// A long string.
pub(super) struct Long {
    unescape: Unescape,
    into: Into,
}

enum Into {
    Stretches(Stretches),
    Whole(WholeValue),
}

impl Long {
    /// One that is masked as a whole, or for what is in it.
    pub(super) fn new(whole: Option<Whole>, context: Context) -> Self {
        Self {
            unescape: Unescape::default(),
            into: match whole {
                Some(what) => Into::Whole(WholeValue::new(what)),
                None => Into::Stretches(Stretches::new(context)),
            },
        }
    }

    pub(super) fn push(
        &mut self,
        raw: &[u8],
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let mut plain = Zeroizing::new(Vec::with_capacity(raw.len()));
        self.unescape.push(raw, &mut plain)?;
        match &mut self.into {
            Into::Stretches(stretches) => {
                stretches.push(&plain, worker, &mut |part| escape::write(part, out))
            }
            Into::Whole(whole) => whole.push(&plain),
        }
        Ok(())
    }

    pub(super) fn finish(self, worker: &mut Worker, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.unescape.finish()?;
        match self.into {
            Into::Stretches(stretches) => {
                stretches.finish(worker, &mut |part| escape::write(part, out));
            }
            Into::Whole(whole) => out.extend_from_slice(&whole.finish(worker)),
        }
        Ok(())
    }
}
