//! Sessions on the real kernel: starts commands as an unprivileged user and looks at what they got. Needs root.
//!
//! The binary plays every part itself: `launch daemon DIR` is a daemon without policy, `launch launcher ..` its launcher, `launch shim` the shim, `launch client ..` is
//! `holdpoint run`, `launch probe NAME` a sandboxed command that tries something. Anything else is a filter of test names.

mod hidden;
mod hostile;
mod inside;
mod jobs;
mod life;
mod probe;
mod terminal;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use clap::Parser as _;
use nix::sys::signal::{SigHandler, Signal};
use world::World;

/// A test: its name and what it does.
pub type Case = (&'static str, fn(&World));

#[derive(clap::Parser)]
struct Client {
    #[command(flatten)]
    run: holdpoint::cli::run::Args,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("shim") => holdpoint::launch::shim::main(),
        Some("launcher") => world::launcher(&arguments),
        Some("daemon") => world::daemon(arguments[2].as_ref()),
        Some("client") => holdpoint::cli::run::run(Client::parse_from(&arguments[1..]).run),
        Some("probe") => probe::main(&arguments[2]),
        _ => test(&arguments),
    }
}

fn test(arguments: &[String]) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("these tests make namespaces and cgroups: run them as root");
        return ExitCode::FAILURE;
    }
    // A script that runs this in its background has it ignore these, and whatever is started here with it.
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        // SAFETY: sets no handler.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.expect("can be reset");
    }
    let filters: Vec<_> = arguments[1..]
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let world = World::new();
    let mut failed = Vec::new();
    for (name, case) in [
        inside::CASES,
        hidden::CASES,
        jobs::CASES,
        terminal::CASES,
        life::CASES,
        hostile::CASES,
    ]
    .concat()
    {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let good = catch_unwind(AssertUnwindSafe(|| case(&world))).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        if !good {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
