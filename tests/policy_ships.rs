//! The policies that ship are checked and tested by the binary that ships, and so is the documented configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use holdpoint_tests::{
    files::{copy_tree, holdpoint_binary, repository},
    sandbox::Ran,
};

fn holdpoint(args: &[&str], dir: &Path) -> Ran {
    let binary = holdpoint_binary().unwrap_or_else(|error| panic!("{error:#}"));
    let started = std::time::Instant::now();
    let output = Command::new(binary)
        .args(args)
        .arg(dir)
        .output()
        .expect("it runs");
    Ran {
        name: format!("holdpoint {}", args.join(" ")),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    }
}

fn copy_of_the_policies() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    copy_tree(&repository().join("policies"), dir.path()).expect("a copy");
    dir
}

/// The starter set and each example, below `policies`.
fn sets(policies: &Path) -> Vec<PathBuf> {
    let examples = fs::read_dir(policies.join("examples")).expect("examples");
    let examples = examples.flatten().map(|entry| entry.path());
    let mut sets: Vec<_> = examples.filter(|path| path.is_dir()).collect();
    sets.push(policies.to_owned());
    sets.sort();
    sets
}

#[test]
fn the_shipped_policies_and_examples_pass_their_own_tests() {
    let sets = sets(&repository().join("policies"));
    assert!(sets.len() >= 7, "{sets:?}");
    for set in sets {
        let _ = holdpoint(&["policy", "check"], &set).succeeded();
        let _ = holdpoint(&["policy", "test", "--coverage"], &set).succeeded();
    }
}

#[test]
fn every_example_says_what_it_is_and_all_fit_together() {
    let everything = copy_of_the_policies();
    let readme = repository().join("policies/examples/README.md");
    let overview = fs::read_to_string(readme).expect("an overview");
    for set in sets(everything.path()) {
        let name = set.file_name().expect("a name").to_string_lossy();
        if set == everything.path() {
            continue;
        }
        assert!(overview.contains(&format!("({name})")), "{name}");
        assert!(set.join("README.md").is_file(), "{name} says nothing");
        for entry in fs::read_dir(&set).expect("files").flatten() {
            if entry.path().extension().is_some_and(|it| it == "cedar") {
                let together = everything.path().join(entry.file_name());
                fs::copy(entry.path(), together).expect("a copy");
            }
        }
    }
    let _ = holdpoint(&["policy", "check"], everything.path()).succeeded();
}

#[test]
fn a_broken_policy_is_named_with_its_file_and_line() {
    let cases = [
        ("permit(principal, action", "broken.cedar:3"),
        (
            r#"permit(principal, action == Action::"sql.instances.delte", resource);"#,
            "sql.instances.delete",
        ),
        (
            "@hodl(\"reviewers\")\nforbid(principal, action, resource);",
            "hodl",
        ),
    ];
    for (policy, named) in cases {
        let dir = copy_of_the_policies();
        fs::write(dir.path().join("broken.cedar"), format!("\n\n{policy}\n")).expect("a file");
        let ran = holdpoint(&["policy", "check"], dir.path()).failed();
        assert!(ran.says("broken.cedar"), "{policy}: {ran}");
        assert!(ran.says(named), "{policy}: {ran}");
    }
}

#[test]
fn taking_any_policy_out_makes_a_case_fail() {
    let policies = repository().join("policies");
    let mut tried = 0;
    for set in sets(&policies) {
        for entry in fs::read_dir(&set).expect("policies/").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|it| it == "cedar") {
                let relative = path.strip_prefix(&policies).expect("it is below");
                tried += take_each_out(relative);
            }
        }
    }
    assert!(tried > 40, "only {tried} policies found");
}

/// Returns how many policies the file has.
fn take_each_out(file: &Path) -> usize {
    let text = fs::read_to_string(repository().join("policies").join(file)).expect("policies");
    let statements: Vec<&str> = text.split_inclusive(";\n").collect();
    let mut tried = 0;
    for (index, statement) in statements.iter().enumerate() {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: String = statement.lines().filter(is_code).collect();
        if !code.contains("permit") && !code.contains("forbid") {
            continue;
        }
        let rest = statements.iter().enumerate().filter(|(at, _)| *at != index);
        let rest: String = rest.map(|(_, statement)| *statement).collect();
        let dir = copy_of_the_policies();
        let changed = dir.path().join(file);
        fs::write(&changed, rest).expect("a file");
        let set = changed.parent().expect("a directory");
        let ran = holdpoint(&["policy", "test"], set);
        assert!(
            !ran.status.success(),
            "no case misses this policy:\n{statement}\n{ran}"
        );
        tried += 1;
    }
    tried
}

#[test]
fn the_documented_configuration_is_one() {
    let path = repository().join("systemd/holdpoint.toml");
    holdpoint::config::Config::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn every_key_of_the_configuration_is_documented() {
    let documented =
        fs::read_to_string(repository().join("systemd/holdpoint.toml")).expect("the file");
    let source = fs::read_to_string(repository().join("agent/src/config.rs")).expect("the source");
    let (source, _) = source
        .split_once("impl Config")
        .expect("types come before their functions");
    let mut keys = 0;
    for line in source.lines().map(str::trim) {
        let Some(key) = line.strip_prefix("pub ").and_then(|it| it.split_once(": ")) else {
            continue;
        };
        if key.0.contains(' ') {
            continue;
        }
        let key = match key.0 {
            "issuers" => "issuer",
            "reviewer_issuers" => "[[reviewer_issuer]]",
            "services" => "[[service]]",
            "notifications" => "[[notification]]",
            "masks" => "[[mask]]",
            "connections" => "[[connection]]",
            key => key,
        };
        assert!(
            documented.contains(key),
            "systemd/holdpoint.toml does not tell of `{key}`"
        );
        keys += 1;
    }
    assert!(keys > 20, "only {keys} keys found");
}
