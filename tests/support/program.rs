//! How the programs of this package end.

use std::process::ExitCode;

/// What `main` returns. Why it failed is said in one line, after the program's name.
#[must_use]
pub fn end(name: &str, done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
