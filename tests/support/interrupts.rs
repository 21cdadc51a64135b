//! Ctrl-C in the middle leaves nothing behind.

use std::io::{stderr, stdout};

use nix::sys::signal::{SigSet, Signal};

/// SIGINT, SIGTERM and SIGHUP, kept waiting.
#[derive(Debug)]
pub struct Interrupts(SigSet);

impl Interrupts {
    /// Keeps them waiting, in this thread and those it starts: to be called first of all.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn block() -> anyhow::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// From now on they end this program, and before that what it would leave behind.
    pub fn clean_up(self, left: impl Leftovers) {
        std::thread::spawn(move || {
            let _ = self.0.wait();
            // The others would only wonder aloud why everything fails.
            let _silence = (stdout().lock(), stderr().lock());
            left.remove();
            std::process::exit(130);
        });
    }
}

/// What somebody leaves behind who does not get as far as dropping it.
pub trait Leftovers: Send + 'static {
    /// Ends and removes it. What is gone already is no error.
    fn remove(self);
}

impl<A: Leftovers, B: Leftovers> Leftovers for (A, B) {
    fn remove(self) {
        self.0.remove();
        self.1.remove();
    }
}

impl<A: Leftovers> Leftovers for Option<A> {
    fn remove(self) {
        self.into_iter().for_each(A::remove);
    }
}
