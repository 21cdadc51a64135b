//! Holdpoint's build, test and demo tasks: `cargo xtask --help`.

mod bench;
mod build_ebpf;
#[cfg(feature = "catalog")]
mod catalog;
mod demo;
mod dist;
#[path = "../../tests/support/host.rs"]
mod host;
mod screenshot;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Build, test and demo tasks.
#[derive(Parser)]
enum Task {
    /// Rebuilds the committed BPF object; sets up the toolchain that needs.
    BuildEbpf(build_ebpf::Args),
    /// Makes the table of Google methods from the discovery documents.
    #[cfg(feature = "catalog")]
    Catalog(catalog::Args),
    /// Makes the table of Google methods from the discovery documents.
    #[cfg(not(feature = "catalog"))]
    #[command(disable_help_flag = true)]
    Catalog(setup::PassedOn),
    /// Runs the main job once, with a stand-in Google and a PostgreSQL, and checks that all of it happened.
    Demo(demo::Args),
    /// Runs every test.
    Test(test::Args),
    /// Measures what Holdpoint costs.
    Bench(bench::Args),
    /// Draws what the README shows of `holdpoint review`, from a real terminal.
    Screenshot,
    /// Builds the Debian package.
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::BuildEbpf(args) => build_ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "catalog")]
        Task::Catalog(args) => catalog::run(&args).map(|()| ExitCode::SUCCESS),
        #[cfg(not(feature = "catalog"))]
        Task::Catalog(args) => setup::with_catalog(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Screenshot => screenshot::run(),
        Task::Dist(args) => dist::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
