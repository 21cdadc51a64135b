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

    /// From now on they end this program, and before that what it would leave behind: `remove` does that.
    pub fn clean_up(self, remove: impl FnOnce() + Send + 'static) {
        std::thread::spawn(move || {
            let _ = self.0.wait();
            // The others would only wonder aloud why everything fails.
            let _silence = (stdout().lock(), stderr().lock());
            remove();
            std::process::exit(130);
        });
    }
}
