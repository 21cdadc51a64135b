//! What the command inherits from the client's process besides its descriptors.

use anyhow::Context as _;
use nix::sys::signal::Signal;

/// What only `/proc/self/status` tells without changing it.
pub struct ProcessState {
    /// The file mode creation mask.
    pub umask: u32,
    ignored: u64,
}

impl ProcessState {
    /// This process's.
    ///
    /// # Errors
    /// When the kernel tells it in another way than known.
    pub fn read() -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status")?)
            .context("/proc/self/status has an unknown form")
    }

    fn parse(status: &str) -> Option<Self> {
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Some(Self {
            umask: u32::from_str_radix(value("Umask:")?, 8).ok()?,
            ignored: u64::from_str_radix(value("SigIgn:")?, 16).ok()?,
        })
    }

    /// Whether a signal is ignored.
    pub fn ignores(&self, signal: Signal) -> bool {
        self.ignored >> (signal as u32 - 1) & 1 == 1
    }

    /// The signals that are ignored. Without SIGPIPE, which Rust's runtime has set.
    pub fn ignored(&self) -> Vec<i32> {
        Signal::iterator()
            .filter(|signal| *signal != Signal::SIGPIPE && self.ignores(*signal))
            .map(|signal| signal as i32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_told_but_for_rusts_own() {
        let state = ProcessState::parse("Name:\tx\nUmask:\t0027\nSigIgn:\t0000000000001001\n")
            .expect("parses");
        assert_eq!(state.umask, 0o27);
        assert_eq!(state.ignored(), [Signal::SIGHUP as i32]);
        assert!(ProcessState::parse("Name:\tx\n").is_none());
    }
}
