//! The Debian package under a real systemd. Takes a root file system, so CI and `cargo xtask test --package` run it in a container, and
//! a plain `cargo xtask test` says that it did not; `cargo xtask test --vm` runs the main job (`work`) in virtual machines with other kernels and systemds.

mod container;
mod dropins;
mod package;
mod service;
mod work;
