//! `holdpoint policy`: check and test policies.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use holdpoint_core::{
    catalog::Catalog,
    operation::Operation,
    policy::{
        Policies, Problem,
        suite::{self, RawRequest, Suite},
    },
    recognise::{self, Head, Malformed, Payload, Recognised},
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::policy_dir::{read_files, read_policies};

/// Check and test policies
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
        /// Fail on warnings, too: rules that can never match or never matter. In CI (CI=true) it always does
        #[arg(long)]
        strict: bool,
    },
    /// Run the cases in *.test.toml against the policies beside them
    Test {
        /// The directory
        dir: PathBuf,
    },
}

/// Runs the subcommand. What is wrong is printed on standard error, `FILE:LINE: MESSAGE` on a line each.
///
/// # Errors
/// When anything is wrong, or the directory cannot be read.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Check { dir, strict } => check(dir, *strict || in_ci()),
        Command::Test { dir } => test(dir),
    }
}

fn check(dir: &Path, strict: bool) -> anyhow::Result<()> {
    let policies = load(dir)?;
    let doubts = policies.doubts(&read_policies(dir)?, Catalog::built_in());
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

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"))
}

fn test(dir: &Path) -> anyhow::Result<()> {
    let policies = load(dir)?;
    let sources = read_files(dir, ".test.toml")?;
    let cases = Suite::parse(&sources).map_err(|problems| complain(dir, &problems))?;
    anyhow::ensure!(
        !cases.is_empty(),
        "{}: no cases in *.test.toml",
        dir.display()
    );
    suite::run(&cases, &policies, Catalog::built_in(), &operations)
        .map_err(|problems| complain(dir, &problems))?;
    println!(
        "{}: {} cases pass, and each of {} policies is needed by one",
        dir.display(),
        cases.len(),
        policies.iter().count()
    );
    Ok(())
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

/// What the daemon would recognise in the request; see [`suite::Recognise`].
fn operations(request: &RawRequest) -> Result<Result<Vec<Operation>, Malformed>, String> {
    let url: Uri = request
        .url
        .parse()
        .map_err(|error| format!("the url is not one: {error}"))?;
    let headers = headers(request)?;
    let head = Head {
        method: &request.method,
        authority: url.authority().ok_or("the url has no host")?.as_str(),
        path: url.path(),
        query: url.query().unwrap_or_default(),
        headers: &headers,
    };
    Ok(recognise(head, request.body.as_bytes()))
}

fn recognise(head: Head<'_>, body: &[u8]) -> Result<Vec<Operation>, Malformed> {
    let route = recognise::route(Catalog::built_in(), head)?;
    Ok(match route.complete(Payload::Whole(body))? {
        Recognised::One(operation) => vec![*operation],
        Recognised::Batch(batch) => batch.operations,
    })
}

fn headers(request: &RawRequest) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let wrong = |error: &dyn std::fmt::Display| format!("the header {name:?}: {error}");
        let field: HeaderName = name.parse().map_err(|error| wrong(&error))?;
        let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
        headers.append(field, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
    }

    #[test]
    fn the_shipped_policies_pass_their_own_test() {
        test(&shipped()).expect("what is shipped works");
    }

    #[test]
    fn a_directory_without_policies_is_no_success() {
        let empty = tempfile::tempdir().expect("a directory");
        assert!(check(empty.path(), false).is_err());
        assert!(test(empty.path()).is_err());
    }

    #[test]
    fn a_policy_that_is_wrong_is_no_success() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(
            dir.path().join("a.cedar"),
            "permit(principal, action resource);",
        )
        .expect("a file");
        let error = check(dir.path(), false).expect_err("it is wrong");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
    }

    #[test]
    fn a_policy_that_never_matches_is_a_warning_and_with_strict_a_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let never = "forbid(principal == Principal::\"ci\", action, resource);";
        std::fs::write(dir.path().join("a.cedar"), never).expect("a file");
        check(dir.path(), false).expect("it can be loaded");
        let error = check(dir.path(), true).expect_err("it never matches");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
        check(&shipped(), true).expect("what ships has no such rules");
    }

    #[test]
    fn a_policy_without_a_case_is_no_success() {
        let dir = tempfile::tempdir().expect("a directory");
        for source in [
            read_policies(&shipped()),
            read_files(&shipped(), ".test.toml"),
        ] {
            for source in source.expect("they are there") {
                std::fs::write(dir.path().join(&source.file), &source.text).expect("a file");
            }
        }
        test(dir.path()).expect("a copy of what is shipped works");
        let extra = "@id(\"extra\") permit(principal, action == Action::\"google.unknown\", resource in Project::\"x\");";
        std::fs::write(dir.path().join("60-extra.cedar"), extra).expect("a file");
        let error = test(dir.path()).expect_err("nothing tests it");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
    }
}
