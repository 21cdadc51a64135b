use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use proptest::{collection::btree_set, prelude::*, sample::select};

use super::*;
use crate::{
    fields::{Fields, Json},
    groups::classify,
    operation::{Action, Content, Trait},
    target::Attributes,
};

/// A short list of methods instead of the real catalog.
pub(super) struct Few;

const METHODS: &[(&str, &str)] = &[
    ("sql.instances.list", "GET"),
    ("sql.instances.delete", "DELETE"),
    ("sql.users.insert", "POST"),
    ("compute.instances.get", "GET"),
    ("compute.instances.insert", "POST"),
    ("compute.instances.delete", "DELETE"),
    ("compute.firewalls.insert", "POST"),
    ("compute.zoneOperations.wait", "POST"),
    ("storage.objects.get", "GET"),
    ("storage.objects.insert", "POST"),
    ("storage.buckets.insert", "POST"),
    ("storage.bucketAccessControls.insert", "POST"),
    ("secretmanager.projects.secrets.versions.access", "GET"),
    (
        "iamcredentials.projects.serviceAccounts.generateAccessToken",
        "POST",
    ),
    ("cloudresourcemanager.projects.setIamPolicy", "POST"),
    ("cloudbuild.projects.builds.create", "POST"),
];

impl KnownActions for Few {
    fn verb(&self, id: &str) -> Option<&str> {
        METHODS
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, verb)| *verb)
    }

    fn nearest(&self, id: &str) -> Option<&str> {
        METHODS
            .iter()
            .map(|(known, _)| *known)
            .min_by_key(|known| strsim::levenshtein(known, id))
    }

    fn nearest_service(&self, service: &str) -> Option<&str> {
        let services = METHODS
            .iter()
            .map(|(id, _)| &id[..id.find('.').expect("one")]);
        services.min_by_key(|known| strsim::levenshtein(known, service))
    }

    fn takes_in_path(&self, id: &str, parameter: &str) -> bool {
        id.starts_with("sql.") && parameter == "instance"
    }

    fn has_service(&self, service: &str) -> bool {
        METHODS
            .iter()
            .any(|(known, _)| known.split('.').next() == Some(service))
    }
}

pub(super) fn source(text: &str) -> Source {
    Source {
        file: "x.cedar".into(),
        text: text.into(),
    }
}

pub(super) fn load(text: &str) -> Policies {
    Policies::load_with(&[source(text)], &Few).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(text: &str) -> Vec<String> {
    match Policies::load_with(&[source(text)], &Few) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn principal() -> Principal {
    Principal {
        issuer: "https://issuer.example.com".into(),
        subject: "agent".into(),
        groups: ["agents".to_owned()].into(),
        claims: [("repository".to_owned(), "shop/web".to_owned())].into(),
    }
}

pub(super) fn operation(id: &str) -> Operation {
    let mut operation = Operation::on_host(Action::UNKNOWN, "sqladmin.googleapis.com", None);
    operation.action = match Few.verb(id) {
        Some(verb) => {
            operation.method = verb.to_owned();
            Action::new(id, classify(id, verb))
        }
        None => Action::new(id, Default::default()),
    };
    operation.path = "/v1/x".into();
    operation.resource.name = "//sqladmin.googleapis.com/projects/p/instances/prod".into();
    operation.resource.project = Some("p".into());
    operation
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (path, value) in pairs {
        let values = fields.0.entry((*path).to_owned()).or_default();
        values.insert((*value).to_owned());
    }
    fields
}

fn reason(decision: &Decision) -> &str {
    match decision {
        Decision::Deny(denial) => &denial.reason,
        other => panic!("not denied: {other:?}"),
    }
}

const READS: &str = r#"@id("reads") permit(principal, action in Action::"read", resource);"#;
const DELETES: &str = r#"@id("deletes") permit(principal, action in Action::"delete", resource);"#;
const HOLD: &str = r#"
@id("hold-deletes")
@hold("reviewers")
@hold_for("2h")
@min_approvals("2")
@reason("it is gone then")
forbid(principal, action in Action::"delete", resource);"#;

#[test]
fn policies_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Policies>();
}

#[test]
fn without_a_permit_it_is_denied() {
    let decision = load("").decide(&principal(), &operation("sql.instances.list"));
    assert_eq!(
        reason(&decision),
        "sql.instances.list on //sqladmin.googleapis.com/projects/p/instances/prod is not permitted: \
         no policy permits it to https://issuer.example.com#agent"
    );
}

#[test]
fn a_permit_allows_with_its_terms() {
    let policies = load(
        r#"@id("a") @mask("pii") permit(principal, action in Action::"read", resource);
           @id("b") @mask("keys") @record("bodies") permit(principal in Group::"agents", action, resource);
           @id("c") @record("headers") permit(principal, action in Action::"sql.*", resource);
           @id("d") @mask("other") permit(principal in Group::"others", action, resource);"#,
    );
    let Decision::Allow(terms) = policies.decide(&principal(), &operation("sql.instances.list"))
    else {
        panic!("not allowed");
    };
    let ids: Vec<_> = terms
        .policies
        .iter()
        .map(|policy| (policy.id.as_str(), policy.line))
        .collect();
    assert_eq!(ids, [("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!(terms.masks, ["keys".to_owned(), "pii".to_owned()].into());
    assert_eq!(terms.record, Recording::Bodies);
}

#[test]
fn a_hold_rule_holds_what_is_permitted_and_nothing_else() {
    let policies = load(&format!("{DELETES}{HOLD}"));
    let Decision::Hold(hold) = policies.decide(&principal(), &operation("sql.instances.delete"))
    else {
        panic!("not held");
    };
    assert_eq!(hold.terms.policies[0].id, "deletes");
    assert_eq!(
        hold.rules,
        [HoldRule {
            policy: PolicyRef {
                id: "hold-deletes".into(),
                file: "x.cedar".into(),
                line: 2,
                sha256: Some(Digest::of_bytes(HOLD.trim().as_bytes())),
            },
            group: "reviewers".into(),
            min_approvals: 2,
            hold_for: Duration::from_secs(7200),
            reason: Some("it is gone then".into()),
            grantable: BTreeSet::new(),
        }]
    );
    let alone = load(HOLD).decide(&principal(), &operation("sql.instances.delete"));
    assert!(reason(&alone).contains("no policy permits it"));
}

#[test]
fn every_hold_rule_that_matches_counts() {
    let other =
        r#"@id("hold-sql") @hold("dba") forbid(principal, action in Action::"sql.*", resource);"#;
    let policies = load(&format!("{DELETES}{HOLD}{other}"));
    let Decision::Hold(hold) = policies.decide(&principal(), &operation("sql.instances.delete"))
    else {
        panic!("not held");
    };
    let groups: Vec<_> = hold.rules.iter().map(|rule| rule.group.as_str()).collect();
    assert_eq!(groups, ["reviewers", "dba"]);
    assert_eq!(hold.rules[1].hold_for, Duration::from_secs(900));
    assert_eq!(hold.rules[1].min_approvals, 1);
    let groups: BTreeSet<_> = policies.reviewer_groups().map(|(group, _)| group).collect();
    assert_eq!(groups, ["dba", "reviewers"].into());
}

#[test]
fn deny_beats_hold() {
    let deny = "@id(\"never\")\n@reason(\"not on prod\")\nforbid(principal, action, resource in Project::\"p\");";
    let decision = load(&format!("{DELETES}{HOLD}\n{deny}"))
        .decide(&principal(), &operation("sql.instances.delete"));
    assert_eq!(
        reason(&decision),
        "sql.instances.delete on //sqladmin.googleapis.com/projects/p/instances/prod is forbidden by \
         policy never (x.cedar:8): not on prod"
    );
}

#[test]
fn an_evaluation_error_denies() {
    // Strict validation lets overflow through: it depends on values.
    let text = r#"permit(principal, action, resource);
        @id("sum") forbid(principal, action, resource)
        when { context has port && context.port + 9223372036854775807 == 0 };"#;
    let mut operation = operation("sql.instances.list");
    assert!(matches!(
        load(text).decide(&principal(), &operation),
        Decision::Allow(_)
    ));
    operation.port = Some(443);
    let decision = load(text).decide(&principal(), &operation);
    assert!(reason(&decision).contains("policy sum (x.cedar:2) could not be evaluated"));

    let held = text.replace(r#"@id("sum")"#, r#"@id("sum") @hold("reviewers")"#);
    let decision = load(&held).decide(&principal(), &operation);
    assert!(reason(&decision).contains("policy sum (x.cedar:2) could not be evaluated"));
}

#[test]
fn conditions_see_the_operation_and_the_principal() {
    let when = |condition: &str| {
        load(&format!(
            "permit(principal, action, resource) when {{ {condition} }};"
        ))
    };
    let mut operation = operation("compute.firewalls.insert");
    operation.resource.location = Some("us-central1".into());
    operation.query = vec![
        ("force".into(), "true".into()),
        ("force".into(), "1".into()),
    ];
    operation.content = Content::Fields(fields(&[("sourceRanges", "0.0.0.0/0")]));
    operation.traits = [Trait::OpenToInternet].into();
    for condition in [
        r#"principal.issuer == "https://issuer.example.com" && principal.subject == "agent""#,
        r#"principal == Principal::"https://issuer.example.com#agent""#,
        r#"principal in Group::"agents""#,
        r#"principal.hasTag("repository") && principal.getTag("repository") == "shop/web""#,
        r#"resource.name like "//sqladmin.googleapis.com/projects/*/instances/prod""#,
        r#"resource has project && resource.project == "p" && resource in Project::"p""#,
        r#"resource has location && resource.location == "us-central1""#,
        r#"resource.host == "sqladmin.googleapis.com" && resource in Host::"googleapis.com""#,
        r#"action == Action::"compute.firewalls.insert" && action in Action::"compute.*""#,
        r#"action in Action::"write" && action in Action::"google""#,
        r#"context.method == "POST" && context.path == "/v1/x""#,
        r#"context.query.hasTag("force") && context.query.getTag("force").containsAll(["true", "1"])"#,
        r#"context.body.hasTag("sourceRanges") && context.body.getTag("sourceRanges").contains("0.0.0.0/0")"#,
        r#"!context.unreadable && context.traits.contains("open-to-internet")"#,
        r#"!(context has port)"#,
    ] {
        assert!(
            matches!(
                when(condition).decide(&principal(), &operation),
                Decision::Allow(_)
            ),
            "{condition}"
        );
    }
}

#[test]
fn unreadable_content_is_visible_and_named_in_the_denial() {
    let policies = load(
        r#"permit(principal, action, resource);
           @id("unreadable") forbid(principal, action, resource) when { context.unreadable };"#,
    );
    let mut operation = operation("storage.objects.insert");
    operation.content = Content::Unreadable("not JSON".into());
    let decision = policies.decide(&principal(), &operation);
    assert!(reason(&decision).ends_with("(its body could not be read: not JSON)"));
}

#[test]
fn unknown_methods_are_in_no_group() {
    let everything = load(
        r#"permit(principal, action in [Action::"google", Action::"read", Action::"write"], resource);"#,
    );
    let mut unknown = operation(Action::UNKNOWN);
    unknown.method = "GET".into();
    let decision = everything.decide(&principal(), &unknown);
    assert_eq!(
        reason(&decision),
        "GET https://sqladmin.googleapis.com/v1/x is no Google API method that Holdpoint knows, and no policy \
         permits google.unknown there"
    );
    let named = load(r#"permit(principal, action == Action::"google.unknown", resource);"#);
    assert!(matches!(
        named.decide(&principal(), &unknown),
        Decision::Allow(_)
    ));
}

#[test]
fn hosts_are_permitted_by_domain() {
    let policies = load(
        r#"permit(principal, action in Action::"net", resource in Host::"example.com") unless { context has port && context.port != 443 };"#,
    );
    let decide =
        |action, host, port| policies.decide(&principal(), &Operation::on_host(action, host, port));
    for (action, host, port) in [
        (Action::NET_CONNECT, "example.com", Some(443)),
        (Action::NET_CONNECT, "api.example.com", Some(443)),
        (Action::NET_RESOLVE, "api.example.com", None),
    ] {
        assert!(
            matches!(decide(action, host, port), Decision::Allow(_)),
            "{host}"
        );
    }
    assert_eq!(
        reason(&decide(Action::NET_CONNECT, "example.com", Some(22))),
        "A connection to example.com:22 (net.connect) is not permitted: no policy permits it to \
         https://issuer.example.com#agent"
    );
    assert!(matches!(
        decide(Action::NET_CONNECT, "evil-example.com", Some(443)),
        Decision::Deny(_)
    ));
}

#[test]
fn what_an_agent_sends_cannot_garble_the_reason() {
    let mut operation = operation("sql.instances.list");
    operation.resource.name = format!("//x\n\u{1b}[31m{}", "a".repeat(1000));
    let decision = load("").decide(&principal(), &operation);
    assert!(!reason(&decision).chars().any(char::is_control));
    assert!(reason(&decision).len() < 500);
}

#[test]
fn mistakes_stop_the_load_with_file_line_and_what_to_write() {
    let all = "permit(principal, action, resource);";
    for (text, expected) in [
        (
            "\npermit(principal, action resource);",
            "x.cedar:2: not a policy: ",
        ),
        (
            "permit(principal, action, resource)",
            "x.cedar:1: not a policy: ",
        ),
        (
            "permit(principal,\n  action == Action::\"sql.instance.delete\", resource);",
            r#"x.cedar:2: there is no action "sql.instance.delete"; did you mean "sql.instances.delete"?"#,
        ),
        (
            "permit(principal, action, resource)\nwhen { action in Action::\"sqll.*\" };",
            r#"x.cedar:2: there is no action "sqll.*"; did you mean "sql.*"?"#,
        ),
        (
            "permit(principal, action in [Action::\"read\", Action::\"delte\"], resource);",
            r#"x.cedar:1: there is no action "delte"; did you mean "delete"?"#,
        ),
        (
            "@hold(\"x\")\n@min_approvals(2)\nforbid(principal, action, resource);",
            "x.cedar:2: not a policy: unexpected token `2` (expected string literal); an annotation has one text in quotes, such as",
        ),
        (
            "@hold(\"x\") @grantable(\"resource\", \"project\") forbid(principal, action, resource);",
            "x.cedar:1: not a policy: unexpected token `,` (expected `)`); an annotation has one text in quotes, such as",
        ),
        (
            "permit(principal, action in Action::\"compute\", resource);",
            r#"x.cedar:1: there is no action "compute"; did you mean "compute.*"?"#,
        ),
        (
            "permit(principal, action in Action::\"stroage.*\", resource);",
            r#"x.cedar:1: there is no action "stroage.*"; did you mean "storage.*"?"#,
        ),
        (
            "permit(principal, action in Action::\"postgre.*\", resource);",
            r#"x.cedar:1: there is no action "postgre.*"; did you mean "postgres.*"?"#,
        ),
        (
            "@id(\"a\")\n@holds(\"x\")\nforbid(principal, action, resource);",
            "x.cedar:2: @holds is not an annotation Holdpoint knows; did you mean @hold?",
        ),
        (
            &format!("@hold(\"x\") {all}"),
            "x.cedar:1: @hold belongs on a forbid",
        ),
        (
            "@mask(\"x\") forbid(principal, action, resource);",
            "x.cedar:1: @mask belongs on a permit",
        ),
        (
            "@hold_for(\"1h\") forbid(principal, action, resource);",
            "x.cedar:1: @hold_for belongs on a forbid with @hold",
        ),
        (
            "@hold(\"x\") @hold_for(\"25h\") forbid(principal, action, resource);",
            "x.cedar:1: @hold_for(\"25h\"): write a time up to 24h",
        ),
        (
            "@hold(\"x\") @hold_for(\"soon\") forbid(principal, action, resource);",
            "x.cedar:1: @hold_for(\"soon\"): write a time up to 24h",
        ),
        (
            "@hold(\"x\") @hold_for(\"-1h\") forbid(principal, action, resource);",
            "x.cedar:1: @hold_for(\"-1h\"): write a time up to 24h",
        ),
        (
            "@hold(\"x\") @min_approvals(\"0\") forbid(principal, action, resource);",
            "x.cedar:1: @min_approvals(\"0\"): write a number from 1 to 20",
        ),
        (
            "@hold forbid(principal, action, resource);",
            "x.cedar:1: @hold is empty",
        ),
        (
            "@hold(\"two words\") forbid(principal, action, resource);",
            "x.cedar:1: @hold(\"two words\") is not a name",
        ),
        (
            &format!("@record(\"all\") {all}"),
            "x.cedar:1: @record(\"all\"): write \"headers\" or \"bodies\"",
        ),
        (
            &format!("@id(\"a\") {all}\n@id(\"a\") {all}"),
            "x.cedar:2: there is another policy with the id \"a\" in x.cedar:1",
        ),
        (
            "permit(principal == ?principal, action, resource);",
            "x.cedar:1: a policy with ?principal",
        ),
        (
            &format!(
                "{all}\nforbid(principal, action, resource)\nwhen {{ context.hots == \"x\" }};"
            ),
            "x.cedar:3: for policy x:2, attribute `hots`",
        ),
        (
            "permit(principal in Gruop::\"x\", action, resource);",
            "x.cedar:1: for policy x:1, unrecognized entity type `Gruop`",
        ),
        (
            "forbid(principal, action, resource)\nwhen { context.traits.contains(\"open-to-the-internet\") };",
            r#"x.cedar:2: there is no trait "open-to-the-internet"; there are "open-to-internet" and "public-access""#,
        ),
        (
            "forbid(principal, action, resource) when { true || context.traits.containsAny([\"public-access\", \"pubic\"]) };",
            r#"x.cedar:1: there is no trait "pubic""#,
        ),
        // Cedar would only find this out while it decides, and skip the forbid.
        (
            "forbid(principal, action, resource) when { context.port == 22 };",
            "x.cedar:1: for policy x:1, ",
        ),
        (
            "forbid(principal, action, resource) when { context.body.getTag(\"a\").contains(\"b\") };",
            "x.cedar:1: for policy x:1, ",
        ),
        (
            "forbid(principal, action == Action::\"sql.instances.list\", resource) when { action in Action::\"delete\" };",
            "x.cedar:1: for policy x:1, ",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{text}\n{found:#?}"
        );
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let found = problems(
        "@holds(\"x\") forbid(principal, action, resource);\n@hold permit(principal, action == Action::\"nope\", resource);\npermit(principal, action == Action::\"nope\", resource);",
    );
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn groups_can_be_combined_within_a_service() {
    assert_eq!(
        problems(
            r#"permit(principal, action in Action::"sql.*", resource) when { action in Action::"read" };
               forbid(principal, action in Action::"read", resource) when { action in Action::"secret" };
               forbid(principal, action in Action::"compute.*", resource) unless { action in [Action::"read", Action::"write"] };"#
        ),
        [""; 0]
    );
}

#[test]
fn files_are_kept_apart() {
    let sources = [
        source("\npermit(principal, action, resource);"),
        Source {
            file: "y.cedar".into(),
            text: "// nothing\n\nforbid(principal, action == Action::\"no\", resource);".into(),
        },
    ];
    let Err(problems) = Policies::load_with(&sources, &Few) else {
        panic!("it loads");
    };
    assert_eq!(problems[0].file, "y.cedar");
    assert_eq!(problems[0].line, 3);
}

#[test]
fn a_policy_can_be_taken_out() {
    let policies = load(&format!("{READS}{DELETES}{HOLD}"));
    let hold = policies
        .iter()
        .find(|policy| policy.id == "hold-deletes")
        .expect("it is there")
        .clone();
    let rest = policies.without(&hold);
    assert!(matches!(
        rest.decide(&principal(), &operation("sql.instances.delete")),
        Decision::Allow(_)
    ));
    assert!(matches!(
        policies.decide(&principal(), &operation("sql.instances.delete")),
        Decision::Hold(_)
    ));
}

/// Policies with every kind of head, so that slices differ.
pub(super) static MANY: LazyLock<Policies> = LazyLock::new(|| {
    let principals = [
        "principal",
        r#"principal in Group::"agents""#,
        r#"principal in Group::"others""#,
        r#"principal == Principal::"https://issuer.example.com#agent""#,
        r#"principal is Principal in Group::"agents""#,
    ];
    let actions = [
        "action",
        r#"action in Action::"read""#,
        r#"action in [Action::"delete", Action::"secret"]"#,
        r#"action in Action::"compute.*""#,
        r#"action == Action::"sql.instances.delete""#,
        r#"action in Action::"google""#,
        r#"action in Action::"net""#,
        r#"action == Action::"google.unknown""#,
    ];
    let mut text = String::new();
    for (i, principal) in principals.iter().enumerate() {
        for (j, action) in actions.iter().enumerate() {
            let effect = match (i + j) % 7 {
                0 => "forbid",
                3 => "@hold(\"reviewers\") forbid",
                _ => "permit",
            };
            // Each applies to some values only: otherwise one forbid would hide everything else.
            text += &format!(
                "{effect}({principal}, {action}, resource) when {{ context.path like \"*{}{}*\" }};\n",
                char::from(b'a' + u8::try_from(i).expect("few")),
                j
            );
        }
    }
    load(&text)
});

/// Heads of every kind, about what [`any_principal`] and [`any_operation`] are like.
fn any_policy() -> impl Strategy<Value = String> {
    let effect = vec!["permit", "permit", "forbid", "@hold(\"reviewers\") forbid"];
    let principal = vec![
        "principal",
        "principal is Principal",
        "principal in Group::\"agents\"",
        "principal in Group::\"others\"",
        "principal is Principal in Group::\"agents\"",
        "principal == Principal::\"https://issuer.example.com#agent\"",
        "principal in Principal::\"https://issuer.example.com#x\"",
        "principal == Group::\"agents\"",
        "principal is Principal in Principal::\"https://issuer.example.com#x\"",
    ];
    let action = vec![
        "action",
        "action in Action::\"read\"",
        "action in [Action::\"delete\", Action::\"secret\"]",
        "action in [Action::\"sql.*\", Action::\"delete\", Action::\"sql.instances.delete\"]",
        "action in Action::\"compute.*\"",
        "action == Action::\"sql.instances.delete\"",
        "action in Action::\"google\"",
        "action in Action::\"net\"",
        "action == Action::\"google.unknown\"",
        "action == Action::\"read\"",
        "action in [Action::\"google\", Action::\"compute.*\", Action::\"read\"]",
    ];
    let resource = vec![
        "resource",
        "resource is Resource",
        "resource in Project::\"p\"",
        "resource is Resource in Project::\"q\"",
        "resource in Host::\"googleapis.com\"",
        "resource in Host::\"example.com\"",
        "resource == Resource::\"//x\"",
        "resource in Resource::\"//y\"",
        "resource == Project::\"p\"",
        "resource == Host::\"example.com\"",
    ];
    // Each applies to some operations only: otherwise one forbid would hide everything else.
    let condition = vec![
        "",
        "when { context.path like \"*a*\" }",
        "when { context.method == \"POST\" } unless { context.host like \"*google*\" }",
        "when { context.body.hasTag(\"f\") && context.body.getTag(\"f\").contains(\"v\") }",
        "when { context.query.hasTag(\"q\") }",
        "when { context has port && context.port + 9223372036854775000 > 1 }",
        "when { resource has project && resource.project == \"p\" }",
        "unless { resource in Host::\"sqladmin.googleapis.com\" }",
        "when { principal in Group::\"others\" && action in Action::\"write\" || resource in Project::\"q\" }",
        "when { context.traits.contains(\"public-access\") || context.unreadable }",
        "when { context.traits.contains(\"public-access\") && context.path like \"*a*\" }",
        "when { context.traits.contains(\"public-access\") }",
        "when { context.traits.contains(\"open-to-internet\") && context.traits.contains(\"public-access\") }",
        "unless { context.traits.contains(\"public-access\") }",
        "when { true }",
        "when { resource is Resource in Project::\"p\" && action != Action::\"sql.instances.delete\" }",
        "when { principal is Principal && resource in [Project::\"p\", Host::\"example.com\"] }",
        "when { context.body.hasTag(\"f\") && !context.body.getTag(\"f\").isEmpty() && context.body.getTag(\"f\").containsAll([\"v\"]) }",
        "when { resource.name like \"//*\" && !(context.path like \"*\\**\") }",
        "when { context has size.vcpus && context.size.vcpus * 2 - 1 <= -1 }",
        "when { principal.subject != \"x\" && [resource.name, \"//x\"].containsAny([\"//y\", resource.host]) }",
        "unless { action in [Action::\"read\", Action::\"compute.*\"] && principal in Group::\"others\" }",
        "when { context.unreadable } unless { context.path like \"*b*\" }",
        "when { context.unreadable }",
        "when { context.traits.contains(\"own-host\") && context has port && context.port + 9223372036854775000 > 1 }",
        "when { resource has location || resource.name like \"//*\" || resource.host == \"x\" }",
        "when { principal.hasTag(\"repository\") && (if context.unreadable then context.host else context.path) like \"*b*\" }",
        "when { [context].contains(context) && {\"a\": context}.a.method == \"GET\" }",
    ];
    (
        select(effect),
        select(principal),
        select(action),
        select(resource),
        // Rules without a condition are not put to Cedar.
        prop_oneof![1 => Just(""), 3 => select(condition)],
    )
        .prop_map(|(effect, principal, action, resource, condition)| {
            format!("{effect}({principal}, {action}, {resource}) {condition};\n")
        })
}

/// Policies that load: those that contradict themselves do not.
fn any_policies() -> impl Strategy<Value = String> {
    proptest::collection::vec(any_policy(), 1..16).prop_map(|mut policies| {
        policies.retain(|policy| problems(policy).is_empty());
        policies.concat()
    })
}

pub(super) fn any_operation() -> impl Strategy<Value = Operation> {
    let ids: Vec<_> = METHODS.iter().map(|(id, _)| *id).collect();
    let others = [Action::UNKNOWN, Action::NET_CONNECT, Action::NET_RESOLVE];
    let id = select([ids, others.to_vec()].concat());
    let port = proptest::option::of(any::<u16>());
    let host = select(vec![
        "sqladmin.googleapis.com",
        "example.com",
        "a.example.com",
        "evil-example.com",
    ]);
    let name = prop_oneof![select(vec!["//x".to_owned(), "//y".to_owned()]), ".{0,20}"];
    let content = prop_oneof![
        Just(Content::Empty),
        Just(Content::Unreadable("not JSON".to_owned())),
        Just(Content::Fields(fields(&[("f", "v")]))),
        ".{0,20}".prop_map(|name| Content::Fields(fields(&[(name.as_str(), "v")]))),
    ];
    let traits = btree_set(select(Trait::ALL.to_vec()), 0..3);
    let project = proptest::option::of(select(vec!["p", "q", "r"]));
    let rest = (project, traits, any::<bool>());
    (id, "[ab/]{0,3}", port, host, name, content, rest).prop_map(
        |(id, path, port, host, name, content, (project, traits, asks))| {
            let mut operation = operation(id);
            operation.path = path;
            operation.port = port;
            operation.host = host.to_owned();
            operation.resource.name = name;
            operation.resource.project = project.map(str::to_owned);
            operation.resource.location = asks.then(|| "here".to_owned());
            operation.query = asks
                .then(|| ("q".to_owned(), "1".to_owned()))
                .into_iter()
                .collect();
            operation.traits = traits;
            operation.content = content;
            operation
        },
    )
}

pub(super) fn any_principal() -> impl Strategy<Value = Principal> {
    let group = select(vec!["agents", "others", "Action", "read"]);
    (btree_set(group, 0..3), select(vec!["agent", "agents", "x"])).prop_map(|(groups, subject)| {
        Principal {
            groups: groups.into_iter().map(str::to_owned).collect(),
            subject: subject.into(),
            ..principal()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_decided_before_never_changes_a_decision(
        text in any_policies(), who in any_principal(), operation in any_operation(), others in proptest::collection::vec(any_operation(), 1..6),
    ) {
        let policies = load(&text);
        for other in &others {
            // The same matter, with other details; and something else.
            let alike = Operation {
                content: other.content.clone(),
                query: other.query.clone(),
                method: other.method.clone(),
                path: other.path.clone(),
                port: other.port,
                size: other.size,
                target: other.target.clone(),
                contains: other.contains.clone(),
                ..operation.clone()
            };
            for asked in [&operation, &alike, other] {
                let decision = policies.decide(&who, asked);
                prop_assert_eq!(decision, policies.decide_unsliced(&who, asked));
            }
        }
    }

    #[test]
    fn slicing_never_changes_a_decision(
        policies in any_policies(),
        asked in proptest::collection::vec((any_principal(), any_operation()), 1..40),
    ) {
        let policies = load(&policies);
        for (who, operation) in &asked {
            prop_assert_eq!(policies.decide(who, operation), policies.decide_unsliced(who, operation));
        }
    }
}

proptest! {
    #[test]
    fn what_is_asked_fits_the_schema_policies_are_checked_against(who in any_principal(), mut operation in any_operation()) {
        // Without one, a policy that asks for it fails; with one, it is as they were told.
        let json = Json::parse(br#"{"labels":{"a":"b"},"createTime":"2026-01-01T00:00:00Z"}"#).expect("JSON");
        operation.target = Target::Known(Box::new(Attributes::of(&json)));
        let mut named = schema::Named::default();
        for (id, verb) in METHODS {
            named.methods.insert((*id).into(), classify(id, verb));
            let service = id.split('.').next().expect("there is a first part");
            named.services.insert(service.into());
        }
        let schema: cedar_policy::Schema = named.schema(&schema::Scope::Everything).parse().expect("it is a schema");
        let question = Question::whole(&who, &operation, Some(Timestamp::UNIX_EPOCH), Some(&schema));
        prop_assert!(question.is_ok(), "{}", question.err().expect("it is an error"));
    }

    #[test]
    fn loading_never_panics(text in ".{0,200}") {
        let _ = problems(&text);
    }

    #[test]
    fn loading_pieces_of_policies_never_panics(pieces in proptest::collection::vec(select(vec![
        "@hold(\"r\")", "@id(\"a\")", "@hold_for(\"1h\")", "@x", "permit", "forbid", "(principal, action, resource)",
        "(principal, action == Action::\"read\", resource)", "when { context.", "unreadable", "}", ";", "\n", "// é\n", "\"", "Action::\"sql.*\"", "?principal",
    ]), 0..12)) {
        let _ = problems(&pieces.join(" "));
    }
}

fn doubts(text: &str) -> Vec<String> {
    let doubts = load(text).doubts(&[source(text)], &Few);
    doubts.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_that_can_never_match_or_never_matter_are_named_with_what_to_write() {
    for (text, expected) in [
        (
            "permit(principal ==\n Principal::\"ci\", action, resource);",
            "x.cedar:2: policy x:1 can never match: no principal is called \"ci\"; write Principal::\"ISSUER#SUBJECT\", or Group::\"ci\"",
        ),
        (
            "permit(principal, action, resource in Project::\"projects/shop\");",
            "x.cedar:1: policy x:1 can never match: no project is called \"projects/shop\"; write Project::\"shop\"",
        ),
        (
            "permit(principal, action in Action::\"net\", resource in Host::\"https://Example.com\");",
            "x.cedar:1: policy x:1 can never match: no host is called \"https://Example.com\"; write its name alone",
        ),
        (
            "permit(principal, action in Action::\"net\", resource in Project::\"shop\");",
            "x.cedar:1: policy x:1 can never match: net.* is about hosts, which are in no project",
        ),
        (
            "forbid(principal, action in Action::\"read\", resource)\nwhen { context has port && context.port != 443 };",
            "x.cedar:2: policy x:1 can never match: only net.connect has a port",
        ),
        (
            "forbid(principal, action in Action::\"write\", resource) when { context.traits.contains(\"public-resolver\") };",
            "x.cedar:1: policy x:1 can never match: \"public-resolver\" is a trait of net.connect and net.resolve only",
        ),
        (
            "forbid(principal, action in Action::\"net\", resource) when { context.traits.contains(\"public-access\") };",
            "x.cedar:1: policy x:1 can never match: \"public-access\" is a trait of Google's methods only",
        ),
        (
            "forbid(principal, action in Action::\"net\", resource) when { context.body.hasTag(\"a\") };",
            "x.cedar:1: policy x:1 can never match: net.* is about hosts, of which context.body is empty",
        ),
        (
            "forbid(principal, action, resource) when { context.method == \"post\" };",
            "x.cedar:1: policy x:1 can never match: verbs are in upper case; write \"POST\"",
        ),
        (
            "forbid(principal, action == Action::\"sql.instances.list\", resource) when { context.method == \"POST\" };",
            "x.cedar:1: policy x:1 can never match: the verb of sql.instances.list is \"GET\"",
        ),
        (
            "forbid(principal, action == Action::\"sql.instances.delete\", resource) when { context.query.hasTag(\"instance\") };",
            "x.cedar:1: policy x:1 can never match: \"instance\" is part of the path of sql.instances.delete",
        ),
        (
            "forbid(principal, action, resource)\nwhen { context.host == \"a\" && context.path like \"*\" }\nwhen { context.host == \"b\" };",
            "x.cedar:3: policy x:1 can never match: context.host cannot be \"a\" and \"b\" at once",
        ),
        (
            "forbid(principal, action in Action::\"delete\", resource);\n@id(\"p\") permit(principal in Group::\"g\", action == Action::\"sql.instances.delete\", resource);",
            "x.cedar:2: policy p never matters: policy x:1 (x.cedar:1) forbids all of it",
        ),
        (
            "forbid(principal, action in Action::\"google\", resource);\n@id(\"h\") @hold(\"r\") forbid(principal, action in [Action::\"sql.*\", Action::\"iam\"], resource);",
            "x.cedar:2: policy h never matters",
        ),
    ] {
        let found = doubts(text);
        assert!(
            found.iter().any(|doubt| doubt.starts_with(expected)),
            "{text}\n{found:#?}"
        );
    }
}

#[test]
fn what_may_match_and_matter_is_not_doubted() {
    for text in [
        "permit(principal, action, resource in Host::\"example.com\") when { context has port && context.port == 443 };",
        "forbid(principal, action, resource) unless { context.method == \"GET\" } when { context.traits.contains(\"own-host\") };",
        "forbid(principal, action in Action::\"delete\", resource) when { context.host == \"a\" || context.host == \"b\" };\npermit(principal, action in Action::\"delete\", resource);",
        "forbid(principal in Group::\"a\", action, resource);\npermit(principal, action, resource);",
        "forbid(principal, action in Action::\"read\", resource);\npermit(principal, action in Action::\"sql.*\", resource);\npermit(principal, action == Action::\"google.unknown\", resource);",
        "forbid(principal, action in [Action::\"sql.instances.list\", Action::\"sql.*\"], resource) when { context.method == \"POST\" };",
        "forbid(principal, action == Action::\"sql.instances.list\", resource) when { context.query.hasTag(\"filter\") };",
    ] {
        assert_eq!(doubts(text), [""; 0], "{text}");
    }
}

#[test]
fn what_the_methods_of_a_rule_do_not_have_is_doubted_and_nothing_else() {
    let catalog = Catalog::built_in();
    let requests = Requests::built_in().expect("it is what cargo xtask catalog wrote");
    let doubts = |text: &str| -> Vec<String> {
        let policies = Policies::load(&[source(text)], catalog).expect("it is valid");
        let doubts = policies.doubts_about_methods(&[source(text)], catalog, &requests);
        doubts.iter().map(ToString::to_string).collect()
    };
    let forbid = |action: &str, condition: &str| {
        format!("forbid(principal, action {action}, resource)\nwhen {{ {condition} }};")
    };
    let tagged = |tag: &str| {
        format!("context.body.hasTag(\"{tag}\") && context.body.getTag(\"{tag}\").contains(\"x\")")
    };
    const INSERT: &str = "== Action::\"sql.instances.insert\"";
    for (action, condition, expected) in [
        (
            INSERT,
            tagged("settings.teir"),
            "x.cedar:2: policy x:1 asks for the field \"settings.teir\" of context.body, which no request to sql.instances.insert has; did you mean \"settings.tier\"?",
        ),
        (
            "in [Action::\"sql.*\"]",
            tagged("settings.teir"),
            "x.cedar:2: policy x:1 asks for the field",
        ),
        (
            INSERT,
            "context.query.hasTag(\"validateOnlyy\")".into(),
            "x.cedar:2: policy x:1 asks for the parameter",
        ),
        (
            "== Action::\"compute.networks.getEffectiveFirewalls\"",
            "context.body.hasTag(\"a\")".into(),
            "x.cedar:2: policy x:1 asks for the field",
        ),
        (
            "in Action::\"postgres.*\"",
            tagged("relations"),
            "x.cedar:2: policy x:1 asks for the field \"relations\" of context.body",
        ),
        (
            "== Action::\"postgres.delete\"",
            tagged("settings.tier"),
            "x.cedar:2: policy x:1 asks for the field \"settings.tier\" of context.body, which no request to postgres.delete has",
        ),
        (
            "== Action::\"logging.entries.write\"",
            "context.target.exists".into(),
            "x.cedar:2: policy x:1 asks for context.target, which cannot be looked up for logging.entries.write",
        ),
    ] {
        let found = doubts(&forbid(action, &condition));
        assert!(
            found.iter().any(|it| it.starts_with(expected)),
            "{action} {condition}: {found:#?}"
        );
    }
    for (action, condition) in [
        (INSERT, tagged("settings.tier")),
        (INSERT, tagged("settings.userLabels.anything")),
        (INSERT, tagged("settings.ip_configuration.ipv4_enabled")),
        ("in Action::\"postgres.*\"", tagged("relation")),
        ("== Action::\"postgres.call\"", tagged("function")),
        ("in Action::\"write\"", tagged("whatever")),
        (INSERT, "context.query.hasTag(\"alt\")".into()),
        (
            "in [Action::\"compute.instances.delete\", Action::\"sql.*\"]",
            "context.target.exists".into(),
        ),
    ] {
        assert_eq!(
            doubts(&forbid(action, &condition)),
            [""; 0],
            "{action} {condition}"
        );
    }
}

#[test]
fn the_schema_for_people_is_one_and_has_what_policies_name() {
    let catalog = Catalog::built_in();
    let text = r#"permit(principal, action == Action::"sql.instances.delete", resource);"#;
    let policies = Policies::load(&[source(text)], catalog).expect("it is valid");
    let schema = policies.schema(catalog);
    assert!(schema.contains("action \"sql.instances.delete\" in ["));
    assert!(schema.contains("action \"compute.*\";"));
    let parsed: Result<cedar_policy::Schema, _> = schema.parse();
    assert!(parsed.is_ok());
}
