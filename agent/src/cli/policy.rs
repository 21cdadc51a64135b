//! `holdpoint policy`: check, test, explain and try out policies.

mod asked;
mod backtest;
mod explain;
mod past;
mod schema;
mod suggest;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use holdpoint_core::{
    catalog::{Catalog, Requests},
    policy::{Policies, Problem},
};

use crate::{
    config::Config,
    masking,
    policy_dir::{self, read_policies},
};

/// Check and test policies, and try them out on what was recorded
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Read every *.cedar file of a directory and say what is wrong
    Check {
        /// The directory
        dir: PathBuf,
        /// Fail on warnings, too: rules that can never match or never matter, or ask for what there is not. In CI (CI=true) it always does
        #[arg(long)]
        strict: bool,
        /// The configuration, for the reviewer groups, mask sets and detectors that the policies name. Without it only the built-in ones are known, and
        /// others are warned of
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Run the cases in *.test.toml against the policies beside them
    Test(test::Args),
    /// Say why an operation gets its decision, policy by policy
    Explain(Box<explain::Args>),
    /// Try policies on recorded operations and say which decisions would change
    Backtest(backtest::Args),
    /// Write the least set of permits that covers recorded sessions, to edit
    Suggest(suggest::Args),
    /// Write the Cedar schema, for editors
    Schema(schema::Args),
}

/// Runs the subcommand. What is wrong is printed on standard error, `FILE:LINE: MESSAGE`.
///
/// # Errors
/// When anything is wrong, or something cannot be read.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let done = match &args.command {
        Command::Check {
            dir,
            strict,
            config,
        } => check(dir, *strict || in_ci(), config.as_deref()),
        Command::Test(args) => test::run(args),
        Command::Explain(args) => explain::run(args).await,
        Command::Backtest(args) => return backtest::run(args).await,
        Command::Suggest(args) => suggest::run(args).await,
        Command::Schema(args) => schema::run(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn check(dir: &Path, strict: bool, config: Option<&Path>) -> anyhow::Result<()> {
    let policies = load(dir)?;
    anyhow::ensure!(
        policies.iter().next().is_some(),
        "{}: there is no policy in its *.cedar files, so everything would be denied",
        dir.display()
    );
    if let Some(config) = config {
        let unfit = policy_dir::unfit(&policies, &Config::load(config)?);
        if !unfit.is_empty() {
            return Err(complain(dir, &unfit));
        }
    }
    let (sources, catalog) = (read_policies(dir)?, Catalog::built_in());
    let mut doubts = policies.doubts(&sources, catalog);
    doubts.extend(policies.doubts_about_methods(&sources, catalog, &Requests::built_in()?));
    if config.is_none() {
        doubts.extend(unknown_without_configuration(&policies));
    }
    if strict && !doubts.is_empty() {
        return Err(complain(dir, &doubts));
    }
    for doubt in &doubts {
        eprintln!("warning: {}", dir.join(doubt.to_string()).display());
    }
    println!(
        "{}: {} policies, nothing wrong{}",
        dir.display(),
        policies.iter().count(),
        if doubts.is_empty() {
            ""
        } else {
            " but for what is warned of"
        }
    );
    Ok(())
}

fn unknown_without_configuration(policies: &Policies) -> Vec<Problem> {
    let mut unknown = masking::unknown_names(policies, &[]);
    for problem in &mut unknown {
        problem.message += " If it is the configuration's own, check with --config FILE";
    }
    unknown
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"))
}

fn load(dir: &Path) -> anyhow::Result<Policies> {
    let sources = read_policies(dir)?;
    anyhow::ensure!(!sources.is_empty(), "{}: no *.cedar files", dir.display());
    Policies::load(&sources, Catalog::built_in()).map_err(|problems| complain(dir, &problems))
}

fn complain(dir: &Path, problems: &[Problem]) -> anyhow::Error {
    for problem in problems {
        eprintln!("{}", dir.join(problem.to_string()).display());
    }
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    anyhow::anyhow!("{}: {count} {noun}", dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_policies_is_no_success() {
        let empty = tempfile::tempdir().expect("a directory");
        assert!(check(empty.path(), false, None).is_err());
        std::fs::write(empty.path().join("a.cedar"), "// later\n").expect("a file");
        assert!(check(empty.path(), false, None).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_policy() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = "\u{feff}permit(principal, action in Action::\"read\", resource);\r\n";
        std::fs::write(dir.path().join("a.cedar"), text).expect("a file");
        check(dir.path(), true, None).expect("editors write them");
    }

    #[test]
    fn a_policy_that_is_wrong_is_no_success() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(
            dir.path().join("a.cedar"),
            "permit(principal, action resource);",
        )
        .expect("a file");
        let error = check(dir.path(), false, None).expect_err("it is wrong");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
    }

    #[test]
    fn a_policy_that_never_matches_is_a_warning_and_with_strict_a_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let never = "forbid(principal == Principal::\"ci\", action, resource);";
        std::fs::write(dir.path().join("a.cedar"), never).expect("a file");
        check(dir.path(), false, None).expect("it can be loaded");
        let error = check(dir.path(), true, None).expect_err("it never matches");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        check(&shipped, true, None).expect("what ships has no such rules");
    }

    #[test]
    fn names_of_the_configuration_are_checked_against_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let policy =
            "permit(principal, action, resource) unless { context.contains.contains(\"ticket\") };";
        std::fs::write(dir.path().join("x.cedar"), policy).expect("a file");
        let unknown = |known: &[_]| {
            let policies = load(dir.path()).expect("it can be loaded");
            masking::unknown_names(&policies, known).len()
        };
        assert_eq!(unknown(&[]), 1);
        let own = serde_json::from_str(r#"{"name": "ticket"}"#).expect("a set");
        assert_eq!(unknown(&[own]), 0);
        check(dir.path(), false, None).expect("another configuration may have it");
        check(dir.path(), true, None).expect_err("none is named");
    }
}
