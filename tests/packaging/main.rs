//! The Debian package under a real systemd. Takes a release build and a root file system, so `cargo xtask test --package` runs it,
//! and a plain `cargo xtask test` says that it did not.

mod container;
mod package;
mod service;
