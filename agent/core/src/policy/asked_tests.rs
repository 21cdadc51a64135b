use proptest::prelude::*;

use super::{tests::load, *};
use crate::{
    fields::Json,
    groups::classify,
    operation::{Action, Content, Resource},
    target::Attributes,
};

fn principal() -> Principal {
    Principal {
        issuer: "https://issuer.example.com".into(),
        subject: "agent".into(),
        groups: BTreeSet::new(),
        claims: Default::default(),
    }
}

fn delete(target: Target) -> Operation {
    let id = "compute.instances.delete";
    Operation {
        action: Action::new(id, classify(id, "DELETE")),
        method: "DELETE".into(),
        resource: Resource {
            name: "//compute.googleapis.com/projects/p/zones/z/instances/i".into(),
            project: Some("p".into()),
            location: Some("z".into()),
        },
        target,
        ..Operation::on_host(Action::UNKNOWN, "compute.googleapis.com", None)
    }
}

fn found(text: &str) -> Target {
    let json = Json::parse(text.as_bytes()).expect("the test's JSON is good");
    Target::Known(Box::new(Attributes::of(&json)))
}

fn unknown() -> Target {
    Target::Unknown("Google said 403".into())
}

const PERMIT: &str = "permit(principal, action, resource);";

#[test]
fn a_rule_may_ask_for_everything_about_the_target() {
    let target = r#"{"labels":{"env":"prod"},"tags":{"items":["ephemeral"]},"deletionProtection":true,
        "creationTimestamp":"2026-01-02T03:04:05Z","machineType":"e2-medium"}"#;
    for condition in [
        r#"context.target.exists && context.target.labels.contains("env=prod")"#,
        r#"context.target.tags.contains("ephemeral") && context.target.deletion_protection"#,
        r#"context.target has created && context.target.created < datetime("2026-01-03")"#,
        r#"context.target has created && context.target.created == datetime("2026-01-02T03:04:05Z")"#,
        r#"context.target.fields.hasTag("machineType") && context.target.fields.getTag("machineType").contains("e2-medium")"#,
    ] {
        let policies = load(&format!(
            "permit(principal, action, resource) when {{ {condition} }};"
        ));
        let decide = |target| policies.decide(&principal(), &delete(target));
        assert!(
            matches!(decide(found(target)), Decision::Allow(_)),
            "{condition}"
        );
        assert!(
            matches!(decide(found("{}")), Decision::Deny(_)),
            "{condition}"
        );
        let absent = Target::Known(Box::new(Attributes::absent()));
        assert!(matches!(decide(absent), Decision::Deny(_)), "{condition}");
    }
}

#[test]
fn a_rule_that_cannot_see_the_target_denies_and_says_why() {
    for rule in [
        r#"@id("r") forbid(principal, action, resource) when { context.target.deletion_protection };"#,
        r#"@id("r") @hold("people") forbid(principal, action, resource) when { context.target.labels.contains("env=prod") };"#,
        r#"@id("r") forbid(principal, action, resource) unless { context.target.tags.contains("ephemeral") };"#,
    ] {
        let policies = load(&format!("{PERMIT}\n{rule}"));
        let Decision::Deny(denial) = policies.decide(&principal(), &delete(unknown())) else {
            panic!("{rule}");
        };
        assert!(
            denial
                .reason
                .contains("could not be looked up: Google said 403")
        );
        assert_eq!(denial.policies[0].id, "r");
        let not_looked = policies.decide(&principal(), &delete(Target::NotLookedUp));
        assert!(matches!(not_looked, Decision::Deny(_)), "{rule}");
    }
}

#[test]
fn it_is_looked_up_only_where_that_decides() {
    let needs = |rule: &str| {
        let policies = load(&format!("{PERMIT}\n{rule}"));
        assert!(
            !policies.needs_target(&principal(), &delete(unknown()), None),
            "{rule}"
        );
        policies.needs_target(&principal(), &delete(Target::NotLookedUp), None)
    };
    let target = "context.target.exists";
    assert!(!needs(""));
    assert!(needs(&format!(
        "forbid(principal, action, resource) when {{ {target} }};"
    )));
    assert!(needs(&format!(
        "@hold(\"people\") forbid(principal, action, resource) when {{ {target} }};"
    )));
    assert!(!needs(&format!(
        "forbid(principal, action == Action::\"sql.instances.delete\", resource) when {{ {target} }};"
    )));
    assert!(!needs(&format!(
        "forbid(principal, action, resource in Project::\"other\") when {{ {target} }};"
    )));
    assert!(!needs(&format!(
        "forbid(principal, action, resource) when {{ context.host == \"x\" && {target} }};"
    )));
    // Denied anyway, before the rules that hold are looked at.
    assert!(!needs(&format!(
        "forbid(principal, action, resource);
         @hold(\"people\") forbid(principal, action, resource) when {{ {target} }};"
    )));
}

#[test]
fn no_policy_can_do_without_the_target_by_asking_whether_it_is_there() {
    for condition in [
        "context has target && context.target.exists",
        "!(context has target)",
        "context has target.exists",
        "context.host == \"x\" || (if context has target then context.target.exists else false)",
        "[context].contains(context)",
        "context == context",
    ] {
        let text = format!("forbid(principal, action, resource) when {{ {condition} }};");
        let source = Source {
            file: "x.cedar".into(),
            text,
        };
        let loaded = Policies::load_with(&[source], &tests::Few);
        let problems = loaded.err().unwrap_or_default();
        let said = |problem: &Problem| problem.message.contains("context.target is looked up");
        assert!(problems.iter().any(said), "{condition}: {problems:?}");
    }
}

#[test]
fn a_change_nobody_can_read_passes_only_where_a_permit_knows_it() {
    let mut operation = delete(Target::NotLookedUp);
    operation.content = Content::Unreadable("not JSON".into());
    let decide = |policies: &str| load(policies).decide(&principal(), &operation);
    let Decision::Deny(denial) = decide(PERMIT) else {
        panic!("allowed");
    };
    assert!(denial.reason.contains("cannot read what it says: not JSON"));
    let held = format!("{PERMIT}\n@hold(\"people\") forbid(principal, action, resource);");
    assert!(matches!(decide(&held), Decision::Deny(_)));
    for permit in [
        "permit(principal, action, resource) when { context.unreadable };",
        "permit(principal, action, resource) when { context.unreadable || context.host == \"x\" };",
    ] {
        assert!(matches!(decide(permit), Decision::Allow(_)), "{permit}");
        let both = format!("{PERMIT}\n{permit}");
        assert!(matches!(decide(&both), Decision::Allow(_)), "{both}");
    }
    // One that asks and does not match has no say.
    let other =
        format!("{PERMIT}\npermit(principal, action, resource) when {{ !context.unreadable }};");
    assert!(matches!(decide(&other), Decision::Deny(_)));

    let mut read = operation.clone();
    read.action = Action::new(
        "compute.instances.get",
        classify("compute.instances.get", "GET"),
    );
    assert!(matches!(
        load(PERMIT).decide(&principal(), &read),
        Decision::Allow(_)
    ));
}

fn any_condition() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "context.target.exists",
        "context.target.deletion_protection",
        r#"context.target.labels.contains("env=prod")"#,
        r#"context.target.tags.containsAny(["ephemeral", "x"])"#,
        r#"(context.target has created && context.target.created < datetime("2026-01-01"))"#,
        r#"context.target.fields.hasTag("machineType")"#,
        r#"context.host == "compute.googleapis.com""#,
        "context.unreadable",
        r#"resource has project && resource.project == "p""#,
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

fn any_policies() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "forbid", "@hold(\"people\") forbid"]);
    let clause = prop::sample::select(vec!["when", "unless"]);
    let policy = (effect, clause, any_condition()).prop_map(|(effect, clause, condition)| {
        format!("{effect}(principal, action, resource) {clause} {{ {condition} }};\n")
    });
    prop::collection::vec(policy, 1..4).prop_map(|all| format!("{PERMIT}\n{}", all.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What depends on the target is denied where it is not known; what is not denied does not depend on it.
    #[test]
    fn nothing_is_let_pass_for_want_of_the_target(text in any_policies()) {
        let source = Source { file: "x.cedar".into(), text };
        // Some of them can never apply, and are refused for that.
        let Ok(policies) = Policies::load_with(&[source], &tests::Few) else {
            return Err(TestCaseError::reject("no such policies"));
        };
        let decide = |target| policies.decide(&principal(), &delete(target));
        let blind = decide(unknown());
        let targets = [
            Target::Known(Box::new(Attributes::absent())),
            found("{}"),
            found(r#"{"labels":{"env":"prod"},"machineType":"m"}"#),
            found(r#"{"tags":{"items":["ephemeral"]},"deletionProtection":true}"#),
            found(r#"{"createTime":"2020-01-01T00:00:00Z"}"#),
        ];
        let needed = policies.needs_target(&principal(), &delete(Target::NotLookedUp), None);
        for target in targets {
            let seeing = decide(target);
            if !matches!(blind, Decision::Deny(_)) {
                prop_assert_eq!(&blind, &seeing);
            }
            // Where nobody looks, looking would change nothing.
            if !needed {
                prop_assert_eq!(&decide(Target::NotLookedUp), &seeing);
            }
        }
    }
}
