//! `cargo xtask bench policy`: how long one decision takes, beside Cedar asked about every policy, and how long policies take
//! to load.

mod made_up;

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use holdpoint_core::{
    catalog::Catalog,
    policy::{Policies, Source},
};
use made_up::Team;

/// Decisions that are timed, each by itself, after a tenth as many that are not.
const DECISIONS: usize = 50_000;
/// Cedar alone takes milliseconds for one.
const UNSLICED: usize = 300;
/// Loads of what ships.
const LOADS: usize = 20;

fn main() {
    let sizes: Vec<usize> = env::args().filter_map(|it| it.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![1_000, 10_000]
    } else {
        sizes
    };
    let catalog = Catalog::built_in();
    let shipped = shipped();
    println!(
        "loading the shipped policies: {}",
        spread(&mut times(LOADS, |_| {
            black_box(Policies::load(&shipped, catalog).ok());
        }))
    );
    println!(
        "the first of these also unpacks the catalog: {} methods\n",
        catalog.methods().len()
    );
    println!("{:>9} {:<10} decisions", "policies", "");
    for size in sizes {
        measure(size, &shipped, catalog);
    }
}

fn measure(size: usize, shipped: &[Source], catalog: &Catalog) {
    let team = Team::of(size, catalog);
    let mut sources = shipped.to_vec();
    sources.push(team.policies(size));
    let started = Instant::now();
    let policies = Policies::load(&sources, catalog)
        .unwrap_or_else(|problems| panic!("{:?}", &problems[..problems.len().min(3)]));
    let loaded = started.elapsed();
    let questions = team.questions(DECISIONS);
    let decide = |at: usize| {
        let (who, what) = &questions[at % questions.len()];
        black_box(policies.decide(who, what));
    };
    times(DECISIONS / 10, decide);
    println!(
        "{size:>9} {:<10} {}",
        "sliced",
        spread(&mut times(DECISIONS, decide))
    );
    let unsliced = |at: usize| {
        let (who, what) = &questions[at * 97 % questions.len()];
        black_box(policies.decide_unsliced(who, what));
    };
    println!(
        "{:>9} {:<10} {}",
        "",
        "all",
        spread(&mut times(UNSLICED, unsliced))
    );
    println!("{:>9} {:<10} loaded in {} ms", "", "", loaded.as_millis());
}

fn times(count: usize, mut what: impl FnMut(usize)) -> Vec<Duration> {
    (0..count)
        .map(|at| {
            let started = Instant::now();
            what(at);
            started.elapsed()
        })
        .collect()
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let us = |hundredths: usize| times[(times.len() - 1) * hundredths / 100].as_secs_f64() * 1e6;
    format!(
        "p50 {:>9.1} us   p99 {:>9.1} us   worst {:>9.1} us",
        us(50),
        us(99),
        us(100)
    )
}

fn shipped() -> Vec<Source> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("they ship")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|it| it == "cedar"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| Source {
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        text: fs::read_to_string(path).expect("it can be read"),
    };
    files.iter().map(read).collect()
}
