use proptest::{collection::vec, prelude::*};

use super::*;
use crate::policy::{
    Decision, Policies, Source,
    suite::RawSql,
    tests::{Few, any_operation, any_principal, operation, principal},
};

fn load(text: &str) -> Policies {
    let source = Source {
        file: "suggested.cedar".into(),
        text: text.into(),
    };
    Policies::load_with(&[source], &Few).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

fn on(id: &str, name: &str, project: Option<&str>) -> Operation {
    let mut operation = operation(id);
    operation.resource.name = name.into();
    operation.resource.project = project.map(str::to_owned);
    operation
}

fn suggestion(operations: &[Operation]) -> Suggestion {
    let principal = principal();
    let done: Vec<_> = operations
        .iter()
        .map(|operation| Done {
            principal: &principal,
            operation,
        })
        .collect();
    suggest(&done, "reviewers")
}

#[test]
fn of_sql_only_the_relations_that_were_touched_are_permitted() {
    let sql = |text: &str| {
        let raw = RawSql {
            text: text.to_owned(),
            instance: Some("p:europe-west1:db".to_owned()),
            database: "shop".to_owned(),
            user: "app".to_owned(),
        };
        raw.operations().expect("statements")
    };
    let suggested = suggestion(&sql(
        "SELECT id FROM public.orders; UPDATE public.orders SET id = 1 WHERE id = 2",
    ));
    let policies = load(&suggested.text);
    let decided = |text: &str| policies.decide(&principal(), &sql(text)[0]);
    assert!(
        matches!(decided("SELECT * FROM public.orders"), Decision::Allow(_)),
        "{}",
        suggested.text
    );
    assert!(
        matches!(
            decided("UPDATE public.orders SET id = 1"),
            Decision::Hold(_)
        ),
        "{}",
        suggested.text
    );
    assert!(
        matches!(decided("SELECT * FROM public.customers"), Decision::Deny(_)),
        "{}",
        suggested.text
    );
    assert!(
        matches!(
            decided("DELETE FROM public.orders WHERE id = 2"),
            Decision::Deny(_)
        ),
        "{}",
        suggested.text
    );
}

#[test]
fn methods_used_in_the_same_places_share_a_permit() {
    let operations = [
        on(
            "sql.instances.list",
            "//sqladmin.googleapis.com/projects/p",
            Some("p"),
        ),
        on(
            "sql.instances.delete",
            "//sqladmin.googleapis.com/projects/p/instances/i",
            Some("p"),
        ),
        on(
            "compute.instances.get",
            "//compute.googleapis.com/projects/p/x",
            Some("p"),
        ),
        on(
            "compute.zoneOperations.wait",
            "//compute.googleapis.com/projects/p/x",
            Some("p"),
        ),
        on(
            "compute.instances.get",
            "//compute.googleapis.com/projects/q/x",
            Some("q"),
        ),
        on(
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/b*/objects/o",
            None,
        ),
    ];
    let suggested = suggestion(&operations);
    let policies = load(&suggested.text);
    let permits = suggested.text.matches("permit(").count();
    assert_eq!(permits, 5, "{}", suggested.text);
    assert!(suggested.text.contains("DANGEROUS"), "{}", suggested.text);
    let decide = |it: &Operation| policies.decide(&principal(), it);
    for operation in &operations {
        let held = matches!(decide(operation), Decision::Hold(_));
        assert_eq!(held, is_held(operation), "{operation:?}");
        assert!(
            !matches!(decide(operation), Decision::Deny(_)),
            "{operation:?}"
        );
    }
    for other in [
        on(
            "sql.instances.list",
            "//sqladmin.googleapis.com/projects/q",
            Some("q"),
        ),
        on("compute.zoneOperations.wait", "//x/projects/q", Some("q")),
        on("compute.instances.insert", "//x/projects/p", Some("p")),
        on(
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/b*c/objects/o",
            None,
        ),
        on(
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/bc/objects/o",
            None,
        ),
    ] {
        assert!(matches!(decide(&other), Decision::Deny(_)), "{other:?}");
    }
}

#[test]
fn several_principals_share_a_group_or_stand_alone() {
    let asked = on("sql.instances.list", "//x/projects/p", Some("p"));
    let of = |subject: &str, group: &str| Principal {
        subject: subject.into(),
        groups: [group.to_owned()].into(),
        ..principal()
    };
    let text = |principals: &[Principal]| {
        let done: Vec<_> = principals
            .iter()
            .map(|principal| Done {
                principal,
                operation: &asked,
            })
            .collect();
        suggest(&done, "reviewers").text
    };
    assert!(text(&[of("a", "ci"), of("b", "ci")]).contains(r#"principal in Group::"ci""#));
    let apart = text(&[of("a", "ci"), of("b", "dev")]);
    assert!(apart.contains(r##"principal == Principal::"https://issuer.example.com#b""##));
    assert!(!apart.contains("Group::"));
}

#[test]
fn nothing_at_all_is_still_a_set_of_policies() {
    let suggested = suggestion(&[]);
    assert_eq!(load(&suggested.text).iter().count(), 2);
}

#[test]
fn resolvers_and_what_deceives_the_eye_are_left_out() {
    let resolver = Operation::on_host(Action::NET_CONNECT, "dns.google", Some(443));
    let hidden = on("sql.instances.list", "//x", Some("p\u{202e}q"));
    let suggested = suggestion(&[resolver, hidden]);
    assert_eq!(suggested.left_out.len(), 2);
    assert!(!suggested.text.contains("permit("));
    load(&suggested.text);
}

proptest! {
    #[test]
    fn what_was_done_may_be_done_again_and_is_held_where_it_is_dangerous(
        done in vec((any_principal(), any_operation()), 0..12),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut all: Vec<_> = done.iter().map(|(principal, operation)| Done { principal, operation }).collect();
        let suggested = suggest(&all, "reviewers");
        let policies = load(&suggested.text);
        let mut left_out = 0;
        for it in &all {
            let decision = policies.decide(it.principal, it.operation);
            if objection(it).is_some() {
                left_out += 1;
            } else if is_held(it.operation) {
                prop_assert!(matches!(decision, Decision::Hold(_)), "{:?}\n{}", it, suggested.text);
            } else {
                prop_assert!(matches!(decision, Decision::Allow(_)), "{:?}\n{}", it, suggested.text);
            }
        }
        prop_assert!(suggested.left_out.len() <= left_out);
        if !all.is_empty() {
            let at = seed.index(all.len());
            all.rotate_left(at);
        }
        prop_assert_eq!(suggest(&all, "reviewers"), suggested);
    }
}
