//! `holdpoint policy test`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use holdpoint_core::{
    catalog::Catalog,
    policy::{
        Policies, PolicyRef, Source,
        suite::{Coverage, Suite, Trials},
    },
};

use super::{asked::operations, complain};
use crate::{
    cli::approvals::screen::{self, Keep, Output, table},
    policy_dir::{read_files, read_policies},
};

/// Run the cases in *.test.toml against the policies beside them
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory
    dir: PathBuf,
    /// Show how many cases each policy decides, and fail where a policy could be taken out without a case failing
    #[arg(long)]
    coverage: bool,
    /// How to print the coverage
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let dir = &args.dir;
    let suite = read_cases(dir)?;
    let policies = load_with_bases(dir, &suite)?;
    let trials = Trials::of(&suite, Catalog::built_in(), &operations)
        .map_err(|problems| complain(dir, &problems))?;
    let failures = trials.failures(&policies);
    if !failures.is_empty() {
        return Err(complain(dir, &failures));
    }
    let coverage = trials.coverage(&policies, is_own);
    let problems: Vec<_> = coverage.iter().filter_map(Coverage::problem).collect();
    if args.coverage {
        screen::print(&match args.output {
            Output::Json => screen::json(&coverage)?,
            Output::Table => shown(&coverage),
        })?;
        if !problems.is_empty() {
            return Err(complain(dir, &problems));
        }
    }
    if args.output == Output::Table {
        let (cases, all) = (suite.len(), coverage.len());
        let needed = all - problems.len();
        let hint = if problems.is_empty() {
            ""
        } else {
            " (--coverage says which are not)"
        };
        println!(
            "{}: {cases} cases pass; {needed} of {all} policies are needed by one{hint}",
            dir.display()
        );
    }
    Ok(())
}

/// The cases of a directory.
pub(super) fn read_cases(dir: &Path) -> anyhow::Result<Suite> {
    let suite = Suite::parse(&read_files(dir, ".test.toml")?)
        .map_err(|problems| complain(dir, &problems))?;
    anyhow::ensure!(
        !suite.is_empty(),
        "{}: no cases in *.test.toml",
        dir.display()
    );
    Ok(suite)
}

/// The policies of a directory, and those that its cases say are in force besides.
pub(super) fn load_with_bases(dir: &Path, suite: &Suite) -> anyhow::Result<Policies> {
    let mut sources = read_policies(dir)?;
    anyhow::ensure!(!sources.is_empty(), "{}: no *.cedar files", dir.display());
    for base in suite.bases() {
        let path = dir.join(base);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}, which the cases name as `base`",
                path.display()
            )
        })?;
        let file = base.to_owned();
        sources.push(Source { file, text });
    }
    Policies::load(&sources, Catalog::built_in()).map_err(|problems| complain(dir, &problems))
}

/// Whether a policy is of the directory itself; a base has a path.
fn is_own(policy: &PolicyRef) -> bool {
    !policy.file.contains('/')
}

fn shown(coverage: &[Coverage]) -> String {
    let rows: Vec<_> = coverage
        .iter()
        .map(|it| {
            let place = format!("{}:{}", it.policy.file, it.policy.line);
            let needed = if it.is_needed { "yes" } else { "NO" };
            [
                place,
                it.decides.to_string(),
                needed.to_owned(),
                it.policy.id.clone(),
            ]
        })
        .collect();
    table(
        ["PLACE", "CASES", "NEEDED", "POLICY"],
        &rows,
        Keep::Beginning,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
    }

    fn test(dir: &Path, coverage: bool) -> anyhow::Result<()> {
        run(&Args {
            dir: dir.to_owned(),
            coverage,
            output: Output::Table,
        })
    }

    #[test]
    fn the_shipped_policies_pass_their_own_test() {
        test(&shipped(), true).expect("what is shipped works");
    }

    #[test]
    fn a_directory_without_policies_or_cases_is_no_success() {
        let empty = tempfile::tempdir().expect("a directory");
        assert!(test(empty.path(), false).is_err());
        let policy = empty.path().join("a.cedar");
        std::fs::write(policy, "permit(principal, action, resource);").expect("a file");
        assert!(test(empty.path(), false).is_err());
    }

    #[test]
    fn a_policy_without_a_case_is_told_and_fails_where_coverage_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        for source in [
            read_policies(&shipped()),
            read_files(&shipped(), ".test.toml"),
        ] {
            for source in source.expect("they are there") {
                std::fs::write(dir.path().join(&source.file), &source.text).expect("a file");
            }
        }
        test(dir.path(), true).expect("a copy of what is shipped works");
        let extra = "@id(\"extra\") permit(principal, action == Action::\"google.unknown\", resource in Project::\"x\");";
        std::fs::write(dir.path().join("60-extra.cedar"), extra).expect("a file");
        test(dir.path(), false).expect("all cases pass");
        let error = test(dir.path(), true).expect_err("nothing tests it");
        assert!(error.to_string().ends_with(": 1 problem"), "{error}");
    }

    #[test]
    fn a_base_is_in_force_and_need_not_be_covered() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("own");
        std::fs::create_dir(&own).expect("a directory");
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("a file");
        write(
            &dir.path().join("base.cedar"),
            "permit(principal, action, resource);\npermit(principal in Group::\"x\", action, resource);",
        );
        write(
            &own.join("a.cedar"),
            "forbid(principal, action in Action::\"delete\", resource);",
        );
        let case = |action: &str, expect: &str| {
            format!(
                "[[case]]\nname = \"{action}\"\noperation = {{ action = \"{action}\", host = \"sqladmin.googleapis.com\" }}\nexpect = \"{expect}\"\n"
            )
        };
        let cases = case("sql.instances.delete", "deny") + &case("sql.instances.list", "allow");
        let cases = format!("base = [\"../base.cedar\"]\n{cases}");
        write(&own.join("a.test.toml"), &cases);
        test(&own, true).expect("it passes");
        std::fs::remove_file(dir.path().join("base.cedar")).expect("it is there");
        assert!(test(&own, true).is_err());
    }
}
