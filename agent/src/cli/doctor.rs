//! `holdpoint doctor`: is this host fit, and does the sandbox hold?

use std::{path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use serde_json::json;

use crate::{
    config,
    doctor::{
        Person, attack_all,
        checks::{self, Finding, Grade},
        verdict::{Baseline, Row, Verdict},
    },
};

/// Looks at the host and the configuration, and attacks a sandbox of its own
///
/// The attacks run in namespaces made for them, with a daemon, an issuer and an outside world of their own: before the first start of
/// the daemon as well as beside a running one. Each is first shown to work outside of the sandbox. Exit code 0: nothing failed and
/// nothing got out; warnings do not count.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Do one half of it only.
    #[arg(long, value_enum)]
    only: Option<Half>,
    /// The user the attacks run as: a name or a number.
    #[arg(long, default_value = "nobody")]
    user: String,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Take this BPF program away from the doctor's own sandbox first, to see it fail.
    #[arg(long, hide = true, value_name = "PROGRAM")]
    without: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    /// The host, the configuration, the daemon.
    Checks,
    /// The sandbox.
    Attacks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Does it.
///
/// # Errors
/// When this is not root, or the attacks cannot be tried.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "doctor has to run as root: it looks at files of root's and makes namespaces"
    );
    let table = args.output == Output::Table;
    let findings = match args.only {
        Some(Half::Attacks) => Vec::new(),
        _ => look(args)?,
    };
    if table {
        findings.iter().for_each(print_finding);
    }
    let rows = match args.only {
        Some(Half::Checks) => Vec::new(),
        _ => attack_all(Person::named(&args.user)?, args.without.as_deref())?,
    };
    if table {
        print_rows(&rows);
    } else {
        println!("{:#}", json!({ "checks": findings, "attacks": rows }));
    }
    let well = findings.iter().all(|finding| finding.grade != Grade::Fail)
        && rows.iter().all(|row| row.verdict.is_good());
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn look(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(checks::all(&args.config)))
}

fn print_finding(finding: &Finding) {
    let Finding {
        grade,
        subject,
        says,
        advice,
    } = finding;
    println!("{:<5} {subject:<17} {says}", grade.name());
    if let Some(advice) = advice {
        println!("{:<5} {:<17} -> {advice}", "", "");
    }
}

fn print_rows(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\n{:<22} {:<15} {:<12} {:<44} WHAT",
        "ATTACK", "OUTSIDE", "VERDICT", "INSIDE"
    );
    for row in rows {
        let baseline = match &row.baseline {
            Baseline::Works => "works",
            Baseline::WorksAsRoot => "works for root",
            Baseline::Lacking(_) => "kernel lacks it",
            Baseline::Fails(_) => "FAILS",
        };
        let verdict = row.verdict.name();
        println!(
            "{:<22} {baseline:<15} {verdict:<12} {:<44} {}",
            row.attack, row.inside, row.what
        );
    }
    for row in rows {
        if let (Verdict::NoBaseline, Baseline::Fails(why)) = (row.verdict, &row.baseline) {
            println!(
                "\n{}: outside it does not work either ({why}), and not because this kernel lacks it: that it fails inside proves nothing.",
                row.attack
            );
        }
    }
    println!("\n{}", summary(rows));
}

fn summary(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let mut parts = vec![
        format!("{} attacks contained", count(Verdict::Contained)),
        format!("{} need what this kernel lacks", count(Verdict::NotHere)),
        format!("{} GOT OUT", count(Verdict::GotOut)),
    ];
    for (verdict, what) in [
        (Verdict::NoBaseline, "without a baseline"),
        (Verdict::Broken, "controls broken"),
        (Verdict::Untried, "left no result"),
    ] {
        match count(verdict) {
            0 => {}
            count => parts.push(format!("{count} {what}")),
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let row = |verdict| Row {
            attack: "x",
            what: "y",
            baseline: Baseline::Works,
            inside: String::new(),
            ms: 0,
            verdict,
        };
        let rows = [
            row(Verdict::Contained),
            row(Verdict::GotOut),
            row(Verdict::Broken),
        ];
        assert_eq!(
            summary(&rows),
            "1 attacks contained, 0 need what this kernel lacks, 1 GOT OUT, 1 controls broken"
        );
    }
}
