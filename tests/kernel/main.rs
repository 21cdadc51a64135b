//! The BPF programs on the real kernel, as root: what each of them is for, and what gets past none of them.
//!
//! `cargo test -p holdpoint-tests --test kernel -- NAME...` runs the tests whose names contain a NAME.

mod faces;
mod foreign;
mod needed;
mod redirects;
mod refusals;
mod services;
mod takeover;
mod vectors;
mod world;

use std::{env, process::ExitCode};

use world::World;

/// A test: its name, and what it does with a world in which all programs are attached and one session is open.
type Test = (&'static str, fn(&mut World) -> anyhow::Result<()>);

fn main() -> ExitCode {
    let names: Vec<String> = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut world = match World::new() {
        Ok(world) => world,
        Err(error) => panic!("cannot test the BPF programs: {error:#}"),
    };
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let mut failures = 0;
    for (name, test) in [
        needed::TESTS,
        redirects::TESTS,
        refusals::TESTS,
        faces::TESTS,
        takeover::TESTS,
        foreign::TESTS,
        services::TESTS,
        vectors::TESTS,
    ]
    .concat()
    {
        if !wanted(name) {
            continue;
        }
        match world.renew().and_then(|()| test(&mut world)) {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                println!("test {name} ... FAILED: {error:#}");
                failures += 1;
            }
        }
    }
    drop(world);
    if failures > 0 {
        println!("{failures} failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
