use proptest::prelude::*;

use super::*;
use crate::policy::{
    replay::tests::verdict,
    tests::{MANY, any_operation, any_principal, load, operation, principal},
};

const POLICIES: &str = r#"
@id("reads") permit(principal, action in Action::"read", resource);
@id("deletes") permit(principal in Group::"agents", action in Action::"delete", resource)
when { resource has project && resource.project == "p" } unless { context.method == "PUT" };
@id("hold-prod") @hold("dba") @reason("production") forbid(principal, action in Action::"delete", resource)
when { resource.name like "*/prod" };
@id("no-replicas") @reason("never") forbid(principal, action in Action::"delete", resource in Project::"q");
"#;

fn explain(operation: &Operation) -> Explanation {
    load(POLICIES)
        .explain(&principal(), operation, None, &Gaps::default())
        .expect("it can be put to Cedar")
}

fn one(verdict: Verdict) -> BTreeSet<Verdict> {
    [verdict].into()
}

#[test]
fn every_candidate_is_shown_part_by_part() {
    let held = explain(&operation("sql.instances.delete"));
    assert_eq!(held.verdicts, one(Verdict::Hold));
    let ids: Vec<_> = held
        .findings
        .iter()
        .map(|it| it.policy.id.as_str())
        .collect();
    assert_eq!(
        ids,
        ["deletes", "hold-prod", "no-replicas"],
        "reads is about another action"
    );
    let [deletes, hold, forbid] = &held.findings[..] else {
        panic!("three")
    };
    assert_eq!(deletes.matches, Match::Yes);
    assert_eq!(deletes.conditions.len(), 2);
    assert!(
        deletes.conditions[1].text.starts_with("unless {"),
        "{deletes:?}"
    );
    assert_eq!(deletes.conditions[1].is_met, Match::Yes);
    assert_eq!(hold.group.as_deref(), Some("dba"));
    assert_eq!(hold.policy.line, 5);
    assert_eq!(forbid.matches, Match::No);
    assert!(forbid.scope.principal && forbid.scope.action && !forbid.scope.resource);
    assert!(held.advice[0].contains("dba") && held.advice[0].contains("hold-prod (x.cedar:5)"));
}

#[test]
fn the_nearest_policy_is_named_with_what_is_in_its_way() {
    let mut put = operation("sql.instances.delete");
    put.method = "PUT".into();
    let denied = explain(&put);
    assert_eq!(denied.verdicts, one(Verdict::Deny));
    let nearest = denied.nearest_to(Verdict::Allow).expect("there is one");
    assert_eq!(
        nearest,
        "permit deletes (x.cedar:3) does not match: `unless { context.method == \"PUT\" }` is not met"
    );
    assert!(denied.advice.iter().any(|it| it.contains(
        r#"permit(principal, action == Action::"sql.instances.delete", resource in Project::"p");"#
    )));
    let allowed = explain(&operation("sql.instances.list"));
    assert_eq!(allowed.verdicts, one(Verdict::Allow));
    assert_eq!(allowed.nearest_to(Verdict::Hold), None);
    let held = explain(&operation("sql.instances.delete"));
    assert_eq!(
        held.nearest_to(Verdict::Deny).as_deref(),
        Some("forbid no-replicas (x.cedar:7) does not match: its resource is another")
    );
    assert_eq!(
        held.nearest_to(Verdict::Allow).as_deref(),
        Some("held by hold-prod (x.cedar:5)")
    );
}

#[test]
fn conditions_are_shown_as_written_and_the_part_that_fails_is_named() {
    let policies = load(
        r#"@reason("when { } ( \" //") forbid(principal, action, resource)
        when { context.path like "*{*" && // no } here
               context.method == "PUT" &&
               !(context.method like "\"}*") }
        unless { [1].contains(2) };"#,
    );
    let mut put = operation("sql.instances.delete");
    put.path = "/{".into();
    let explained = policies.explain(&principal(), &put, None, &Gaps::default());
    let explained = explained.expect("it can be put to Cedar");
    let conditions = &explained.findings[0].conditions;
    let texts: Vec<_> = conditions.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            r#"when { context.path like "*{*" && context.method == "PUT" && !(context.method like "\"}*") }"#,
            "unless { [1].contains(2) }"
        ]
    );
    let because = conditions[0].because.as_deref();
    assert_eq!(because, Some(r#"context.method == "PUT""#));
}

proptest! {
    #[test]
    fn any_text_is_taken_apart(text in r#"([(){}\[\]"\\/\n aé]|when|unless){0,40}"#) {
        for clause in clauses(&text) {
            let last = clause.chars().last();
            prop_assert_eq!(last, Some('}'));
        }
    }

    #[test]
    fn an_explanation_ends_where_the_decision_does(who in any_principal(), operation in any_operation()) {
        let decided = one(verdict(&MANY.decide(&who, &operation)));
        let explained = MANY.explain(&who, &operation, None, &Gaps::default()).expect("it can be put to Cedar");
        prop_assert_eq!(&explained.verdicts, &decided);
        for finding in &explained.findings {
            let parts = finding.scope.holds() && finding.conditions.iter().all(|it| it.is_met == Match::Yes);
            prop_assert_eq!(parts, finding.matches == Match::Yes, "{:?}", finding);
        }
    }
}
