//! `cargo xtask test --vm`: Debian's kernels under real systemds, in virtual machines; the package, the main job and the attacks in each.

mod guest;
mod image;
mod machine;
mod matrix;
mod outcome;
mod payload;

use std::{
    fs,
    path::Path,
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context as _;

use crate::{host, setup, test::report::Report};
use guest::{KERNELS, Kernel, Release};
use image::Image;
use machine::Machine;
use outcome::Outcome;

/// Each keeps a core busy and a bit more.
const AT_ONCE: usize = 2;

/// Tries the kernels whose names are `wanted` (all, where none is), and writes target/vm/matrix.md.
///
/// # Errors
/// When this host lacks something, or the tests do not build; what goes wrong with a machine is the report's.
pub fn run(report: &mut Report, wanted: &[String]) -> anyhow::Result<()> {
    let kernels = chosen(wanted)?;
    host::require_program("qemu-system-x86_64", "qemu-system-x86")?;
    let place = setup::repository().join("target/vm");
    fs::create_dir_all(&place)?;
    let host = Release::of_this_host()?;
    let payload = payload::disk(&place)?;
    let outcomes = try_all(report, kernels, |kernel| {
        let image = image::ready(kernel, host, &place.join("images"))?;
        try_one(kernel, &image, &payload, &place)
    });
    let table = matrix::table(&outcomes.iter().collect::<Vec<_>>());
    print!("\n{table}");
    fs::write(place.join("matrix.md"), table)?;
    Ok(())
}

fn chosen(wanted: &[String]) -> anyhow::Result<Vec<Kernel>> {
    for name in wanted {
        let known = KERNELS.iter().any(|kernel| kernel.name == name);
        let names = KERNELS.map(|kernel| kernel.name).join(", ");
        anyhow::ensure!(known, "no kernel is called {name}; there are {names}");
    }
    let is_chosen =
        |kernel: &Kernel| wanted.is_empty() || wanted.iter().any(|name| name == kernel.name);
    Ok(KERNELS.into_iter().filter(is_chosen).collect())
}

/// [`AT_ONCE`] at a time; their outcomes, oldest kernel first.
fn try_all(
    report: &mut Report,
    kernels: Vec<Kernel>,
    try_it: impl Fn(Kernel) -> anyhow::Result<Tried> + Sync,
) -> Vec<Outcome> {
    eprintln!("\n=== virtual machines");
    let (tell, told) = mpsc::channel();
    let count = kernels.len();
    let queue = Mutex::new(kernels.into_iter().enumerate());
    let next = || queue.lock().expect("nobody panics with it").next();
    let mut outcomes = thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count) {
            let (tell, try_it, next) = (tell.clone(), &try_it, &next);
            scope.spawn(move || {
                while let Some((number, kernel)) = next() {
                    let begun = Instant::now();
                    if tell.send((number, kernel, begun, try_it(kernel))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut outcomes = Vec::new();
        for (number, kernel, begun, tried) in told {
            let name = format!("virtual machine: Linux {}", kernel.name);
            let Tried { outcome, ended } = tried.unwrap_or_else(Tried::nothing);
            let good = outcome.is_good() && ended.is_ok();
            if let Err(error) = ended {
                report.note(&format!("{name}: {error:#}"));
            }
            report.printed(&name, &outcome.tests(), good, begun);
            outcomes.push((number, outcome));
        }
        outcomes
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What came of it, and whether the machine ended by itself.
struct Tried {
    outcome: Outcome,
    ended: anyhow::Result<()>,
}

impl Tried {
    /// No machine to begin with.
    fn nothing(error: anyhow::Error) -> Self {
        Self {
            outcome: Outcome::default(),
            ended: Err(error),
        }
    }
}

fn try_one(kernel: Kernel, image: &Image, payload: &Path, place: &Path) -> anyhow::Result<Tried> {
    let console = place.join(format!("{}.console", kernel.name));
    let machine = Machine::boot(image, payload, &console)?;
    let mut outcome = Outcome::default();
    let ended = machine.listen(|line| {
        println!("[{}] {line}", kernel.name);
        outcome.line(line);
    });
    let ended = ended.with_context(|| format!("its console: {}", console.display()));
    Ok(Tried { outcome, ended })
}
