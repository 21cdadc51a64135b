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
/// When this host lacks something, or the disks cannot be made; what goes wrong in a machine is the report's.
pub fn run(report: &mut Report, wanted: &[String]) -> anyhow::Result<()> {
    host::require_program("qemu-system-x86_64", "qemu-system-x86")?;
    let place = setup::repository().join("target/vm");
    fs::create_dir_all(&place)?;
    let release = Release::of_this_host()?;
    let mut waiting = Vec::new();
    for kernel in chosen(wanted)? {
        waiting.push((
            kernel,
            image::ready(kernel, release, &place.join("images"))?,
        ));
    }
    let payload = payload::disk(&place)?;
    let outcomes = try_all(report, waiting, &payload, &place)?;
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
    kernels: Vec<(Kernel, Image)>,
    payload: &Path,
    place: &Path,
) -> anyhow::Result<Vec<Outcome>> {
    eprintln!("\n=== virtual machines");
    let (tell, told) = mpsc::channel();
    let count = kernels.len();
    let queue = Mutex::new(kernels.into_iter().enumerate());
    let next = || queue.lock().expect("nobody panics with it").next();
    let mut outcomes = thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count) {
            let tell = tell.clone();
            scope.spawn(move || {
                while let Some((number, (kernel, image))) = next() {
                    let begun = Instant::now();
                    let outcome = try_one(kernel, &image, payload, place);
                    if tell.send((number, kernel, begun, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut outcomes = Vec::new();
        for (number, kernel, begun, outcome) in told {
            let (outcome, ended) = outcome.with_context(|| format!("Linux {}", kernel.name))?;
            let name = format!("virtual machine: Linux {}", kernel.name);
            let good = outcome.is_good() && ended.is_ok();
            if let Err(error) = ended {
                report.note(&format!("{name}: {error:#}"));
            }
            report.printed(&name, &outcome.tests(), good, begun);
            outcomes.push((number, outcome));
        }
        anyhow::Ok(outcomes)
    })?;
    outcomes.sort_by_key(|(number, _)| *number);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// What came of it, and whether the machine ended by itself.
fn try_one(
    kernel: Kernel,
    image: &Image,
    payload: &Path,
    place: &Path,
) -> anyhow::Result<(Outcome, anyhow::Result<()>)> {
    let console = place.join(format!("{}.console", kernel.name));
    let machine = Machine::boot(image, payload, &console)?;
    let mut outcome = Outcome::default();
    let ended = machine.listen(|line| {
        println!("[{}] {line}", kernel.name);
        outcome.line(line);
    });
    let ended = ended.with_context(|| format!("its console: {}", console.display()));
    Ok((outcome, ended))
}
