//! Runs the steps, shows what they print, and adds up what they tell, in the words of `cargo test`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::Context as _;

/// What came of it all so far.
pub struct Report {
    started: Instant,
    lines: Vec<String>,
    counts: Counts,
}

/// How many tests came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Report {
    /// An empty one.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            lines: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Runs a step that counts as one test; tells whether it passed.
    pub fn run(&mut self, name: &str, mut command: Command) -> anyhow::Result<bool> {
        eprintln!("\n=== {name}");
        let begun = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("cannot run {name}"))?;
        self.step(name, status.success(), begun);
        Ok(status.success())
    }

    /// Runs a `cargo test` and counts what it counted.
    pub fn tests(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        eprintln!("\n=== {name}");
        let begun = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut counted = Counts::default();
        for line in stdout.lines() {
            let line = line?;
            println!("{line}");
            counted.add(Counts::read(&line).unwrap_or_default());
        }
        let success = child.wait()?.success();
        self.settle(name, counted, success, begun);
        Ok(())
    }

    /// Counts what was printed elsewhere by tests that began at `begun`.
    pub fn printed(&mut self, name: &str, lines: &[String], success: bool, begun: Instant) {
        self.settle(name, Counts::of(lines), success, begun);
    }

    fn settle(&mut self, name: &str, counted: Counts, success: bool, begun: Instant) {
        // A test binary that dies tells no counts: its step fails all the same.
        if success || counted.failed == 0 {
            self.step(name, success, begun);
        } else {
            self.tell(name, false, begun);
        }
        self.counts.add(counted);
    }

    /// Says what was left out.
    pub fn note(&mut self, text: &str) {
        self.lines.push(format!("note: {text}"));
    }

    /// The closing lines, and the exit code.
    pub fn close(self) -> ExitCode {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        let Counts {
            passed,
            failed,
            ignored,
        } = self.counts;
        let result = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             0 filtered out; finished in {:.2}s",
            self.started.elapsed().as_secs_f64()
        );
        ExitCode::from(u8::from(failed > 0))
    }

    fn step(&mut self, name: &str, success: bool, begun: Instant) {
        self.tell(name, success, begun);
        self.counts.add(match success {
            true => Counts {
                passed: 1,
                ..Counts::default()
            },
            false => Counts {
                failed: 1,
                ..Counts::default()
            },
        });
    }

    fn tell(&mut self, name: &str, success: bool, begun: Instant) {
        let word = if success { "ok" } else { "FAILED" };
        self.lines.push(format!(
            "test {name} ... {word} ({:.0} s)",
            begun.elapsed().as_secs_f64()
        ));
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Of all that was printed.
    pub fn of(lines: &[String]) -> Self {
        let mut counts = Self::default();
        for line in lines {
            counts.add(Self::read(line).unwrap_or_default());
        }
        counts
    }

    /// From a line about one test, as libtest and the harnesses of our own write it.
    fn read(line: &str) -> Option<Self> {
        let (_, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let mut counts = Self::default();
        let count = match result.split([' ', ',', ':']).next()? {
            "ok" => &mut counts.passed,
            "FAILED" => &mut counts.failed,
            "ignored" => &mut counts.ignored,
            _ => return None,
        };
        *count = 1;
        Some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_harnesses_write() {
        let read = |line| Counts::read(line).map(|it| (it.passed, it.failed, it.ignored));
        assert_eq!(read("test a::b ... ok"), Some((1, 0, 0)));
        assert_eq!(read("test a - should panic ... ok"), Some((1, 0, 0)));
        assert_eq!(read("test egress ... FAILED: it got out"), Some((0, 1, 0)));
        assert_eq!(read("test c ... ignored, needs a cloud"), Some((0, 0, 1)));
        assert_eq!(read("test result: ok. 12 passed; 0 failed"), None);
        assert_eq!(read("test d has been running for over 60 seconds"), None);
    }
}
