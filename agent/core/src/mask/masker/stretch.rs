//! Values that are too long to be looked at as a whole.

use zeroize::Zeroizing;

use super::{
    super::{Context, Whole},
    OVERLAP, WINDOW, Worker,
};

/// A long value, looked at in stretches of [`WINDOW`] bytes that lie at fixed places of it, so that the pieces it comes in do not matter.
#[derive(Default)]
pub(super) struct Stretches {
    held: Zeroizing<Vec<u8>>,
    context: Context,
    /// Something goes on for longer than can be looked at: all that follows is part of it.
    swallowing: bool,
    /// That something is a key's block.
    open: bool,
}

impl Stretches {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            ..Self::default()
        }
    }

    /// Takes more of the value; gives to `emit` what is known.
    pub(super) fn push(
        &mut self,
        mut input: &[u8],
        worker: &mut Worker,
        emit: &mut impl FnMut(&[u8]),
    ) {
        while !input.is_empty() && !self.swallowing {
            let (now, later) = input.split_at(input.len().min(WINDOW - self.held.len()));
            self.held.extend_from_slice(now);
            input = later;
            if self.held.len() == WINDOW {
                self.advance(worker, emit);
            }
        }
    }

    /// Gives out what nothing that follows can change.
    fn advance(&mut self, worker: &mut Worker, emit: &mut impl FnMut(&[u8])) {
        let mut cut = WINDOW - OVERLAP;
        worker.look(&self.held, self.context);
        worker.hits().retain(|hit| hit.at.start < cut);
        if let Some(last) = worker.hits().last() {
            self.swallowing = last.open || last.at.end == WINDOW;
            self.open = last.open;
            cut = cut.max(last.at.end);
        }
        worker.write(&self.held[..cut], |part, _| emit(part));
        self.held.drain(..cut);
    }

    /// The value's end. Returns whether it ended within a key's block.
    pub(super) fn finish(self, worker: &mut Worker, emit: &mut impl FnMut(&[u8])) -> bool {
        if self.swallowing {
            return self.open;
        }
        worker.look(&self.held, self.context);
        worker.write(&self.held, |part, _| emit(part));
        worker.hits().last().is_some_and(|hit| hit.open)
    }
}

/// A long value that is masked as a whole: only its digest is kept.
pub(super) struct WholeValue {
    what: Whole,
    digest: sha2::Sha256,
}

impl WholeValue {
    pub(super) fn new(what: Whole) -> Self {
        Self {
            what,
            digest: sha2::Digest::new(),
        }
    }

    pub(super) fn push(&mut self, input: &[u8]) {
        sha2::Digest::update(&mut self.digest, input);
    }

    pub(super) fn finish(self, worker: &mut Worker) -> Vec<u8> {
        let digest = sha2::Digest::finalize(self.digest).into();
        worker.whole_of_digest(self.what, &digest)
    }
}
