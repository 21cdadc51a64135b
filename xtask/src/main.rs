//! Holdpoint's build, test and demo tasks: `cargo xtask --help`.

mod bench;
mod build_ebpf;
mod catalog;
mod demo;
mod test;

use clap::Parser;

/// Build, test and demo tasks.
#[derive(Parser)]
enum Task {
    /// Rebuilds the committed BPF object; sets up the toolchain that needs.
    BuildEbpf(build_ebpf::Args),
    /// Makes the table of Google methods from the discovery documents.
    Catalog(catalog::Args),
    /// Runs the main job once, with a stand-in Google, and checks that all of it happened.
    Demo(demo::Args),
    /// Runs every test.
    Test(test::Args),
    /// Measures what Holdpoint costs.
    Bench(bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Catalog(args) => catalog::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
    }
}
