//! The `holdpoint` program.

fn main() {}
