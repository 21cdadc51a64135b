use super::*;
use crate::policy::{
    Source,
    tests::{Few, load},
};

const POLICIES: &str = r#"
@id("reads") permit(principal, action in Action::"read", resource);
@id("deletes") permit(principal, action in Action::"delete", resource);
@id("hold-deletes") @hold("r") forbid(principal, action in Action::"delete", resource);
"#;

const CASES: &str = r#"
[[case]]
name = "a read"
operation = { action = "sql.instances.list", resource = "//sqladmin.googleapis.com/projects/p" }
expect = "allow"

[[case]]
name = "a delete"
operation = { action = "sql.instances.delete", resource = "//sqladmin.googleapis.com/projects/p/instances/i" }
expect = "hold"
policy = "hold-deletes"

[[case]]
name = "the wire"
request = { method = "GET", url = "https://sqladmin.googleapis.com/v1/projects/p/instances" }
expect = "deny"
"#;

fn file(name: &str, text: &str) -> [Source; 1] {
    [Source {
        file: name.into(),
        text: text.into(),
    }]
}

fn outcome(policies: &str, cases: &str) -> Vec<String> {
    let suite = match Suite::parse(&file("x.test.toml", cases)) {
        Ok(suite) => suite,
        Err(problems) => return problems.iter().map(ToString::to_string).collect(),
    };
    let malformed = |_: &RawRequest| Ok(Err(Malformed("it is".into())));
    let trials = match Trials::of(&suite, &Few, &malformed) {
        Ok(trials) => trials,
        Err(problems) => return problems.iter().map(ToString::to_string).collect(),
    };
    let policies = load(policies);
    let failures = trials.failures(&policies);
    let coverage = || {
        let coverage = trials.coverage(&policies, |_| true);
        coverage.iter().filter_map(Coverage::problem).collect()
    };
    let problems = Some(failures).filter(|it| !it.is_empty());
    let problems = problems.unwrap_or_else(coverage);
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn cases_that_cover_every_policy_pass() {
    assert_eq!(outcome(POLICIES, CASES), [""; 0]);
}

#[test]
fn a_case_that_is_not_met_says_what_came_instead() {
    let cases = CASES.replace("expect = \"allow\"", "expect = \"deny\"");
    assert_eq!(
        outcome(POLICIES, &cases),
        [
            "x.test.toml:2: case \"a read\": expected deny, got allow by reads (x.cedar:2)\n    \
             asked    sql.instances.list on //sqladmin.googleapis.com/projects/p"
        ]
    );
    let cases = CASES.replace("policy = \"hold-deletes\"", "policy = \"another\"");
    assert_eq!(
        outcome(POLICIES, &cases),
        [
            "x.test.toml:7: case \"a delete\": expected hold by another, got hold by hold-deletes (x.cedar:4), \
             deletes (x.cedar:3)\n    \
             asked    sql.instances.delete on //sqladmin.googleapis.com/projects/p/instances/i\n    \
             nearest  there is no policy another"
        ]
    );
}

#[test]
fn a_policy_that_no_case_needs_is_a_failure() {
    let unused =
        format!("{POLICIES}@id(\"more\") permit(principal, action in Action::\"iam\", resource);");
    assert_eq!(
        outcome(&unused, CASES),
        ["x.cedar:5: policy more: no case is decided by it: add one"]
    );
    let doubled = format!(
        "{POLICIES}@id(\"again\") permit(principal, action in Action::\"sql.*\", resource) when {{ action in Action::\"read\" }};"
    );
    assert_eq!(
        outcome(&doubled, CASES).len(),
        2,
        "either of them can be taken out"
    );
    let everywhere = r#"@id("all") permit(principal, action, resource);"#;
    let case = "[[case]]\nname = \"a\"\noperation = { action = \"sql.instances.list\", host = \"h\" }\nexpect = \"allow\"";
    assert_eq!(
        outcome(everywhere, case),
        ["x.cedar:1: policy all: every case is decided by it: add one that is not"]
    );
}

#[test]
fn mistakes_in_cases_are_named() {
    for (cases, expected) in [
        ("[[case]]\nname = 1", "x.test.toml:2: "),
        (
            "[[case]]\nname = \"a\"\nexpects = \"deny\"",
            "x.test.toml:3: unknown field `expects`",
        ),
        (
            "[[case]]\nname = \"a\"\nexpect = \"deny\"",
            "x.test.toml:1: case \"a\": write one of `request`, `operation`, `sql`",
        ),
        (
            "[[case]]\nname = \"a\"\nexpect = \"deny\"\noperation = { action = \"sql.instance.list\", host = \"h\" }",
            "x.test.toml:1: case \"a\": there is no action \"sql.instance.list\"; did you mean \"sql.instances.list\"?",
        ),
        (
            "[[case]]\nname = \"a\"\nexpect = \"deny\"\noperation = { action = \"net.connect\" }",
            "x.test.toml:1: case \"a\": `operation` needs a `host`",
        ),
        (
            "[[case]]\nname = \"a\"\nexpect = \"deny\"\noperation = { action = \"net.connect\", host = \"h\", traits = [\"open\"] }",
            "x.test.toml:1: case \"a\": there is no trait \"open\"",
        ),
    ] {
        let found = outcome(POLICIES, cases);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{cases}\n{found:#?}"
        );
    }
}

#[test]
fn the_strictest_part_of_a_batch_counts() {
    let allow = || Decision::Allow(crate::policy::Terms::default());
    let deny = || {
        Decision::Deny(crate::policy::Denial {
            reason: "no".into(),
            policies: Vec::new(),
        })
    };
    let outcome = Outcome::of([allow(), deny(), allow()]);
    assert_eq!(outcome.verdict, Verdict::Deny);
    assert_eq!(outcome.reason, "no");
}
