use proptest::prelude::*;

use super::*;
use crate::recognise;

fn operation(method: &str, url: &str, body: &str) -> Operation {
    recognise::reading::tests::operation(method, url, body.as_bytes())
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).expect("the test's JSON is good")
}

fn lines(change: &Change) -> Vec<String> {
    let line = |edit: &Edit| {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        format!(
            "{}: {} > {}",
            edit.path,
            value(&edit.before),
            value(&edit.after)
        )
    };
    change.edits.iter().map(line).collect()
}

fn told(method: &str, url: &str, body: &str, before: &str) -> Vec<String> {
    let operation = operation(method, url, body);
    let before = json(before);
    lines(&of(&operation, Some(&before)).expect("it can be told"))
}

const SQL: &str = "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i";
const VM: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i";

#[test]
fn a_patch_changes_what_it_says_and_nothing_else() {
    let before = r#"{"name":"i","settings":{"tier":"small","ipConfiguration":{"ipv4Enabled":true,"requireSsl":true}},"labels":{"a":"b"}}"#;
    let body =
        r#"{"settings":{"tier":"large","ip_configuration":{"ipv4Enabled":false}},"labels":null}"#;
    assert_eq!(
        told("PATCH", SQL, body, before),
        [
            r#"labels: {"a": "b"} > -"#,
            "settings.ipConfiguration.ipv4Enabled: true > false",
            "settings.tier: small > large",
        ]
    );
    assert_eq!(told("PATCH", SQL, r#"{"name":"i"}"#, before), [""; 0]);
}

#[test]
fn a_mask_says_what_of_a_patch_counts() {
    const TOPIC: &str = "pubsub.googleapis.com/v1/projects/p/topics/t";
    let before = r#"{"name":"t","labels":{"a":"b","c":"d"},"kmsKeyName":"k"}"#;
    let body = r#"{"topic":{"labels":{"a":"x"},"kmsKeyName":"other"},"updateMask":"labels"}"#;
    assert_eq!(
        told("PATCH", TOPIC, body, before),
        ["labels.a: b > x", "labels.c: d > -"]
    );
    let in_query = format!("{TOPIC}?updateMask=kms_key_name,labels.c");
    assert_eq!(
        told("PATCH", &in_query, r#"{"labels":{"a":"x"}}"#, before),
        ["kmsKeyName: k > -", "labels.c: d > -"]
    );
    let all = format!("{TOPIC}?updateMask=*");
    assert_eq!(
        told("PATCH", &all, r#"{"name":"t"}"#, before),
        ["kmsKeyName: k > -", r#"labels: {"a": "b", "c": "d"} > -"#]
    );
}

#[test]
fn a_put_removes_what_it_leaves_out() {
    let before = r#"{"kind":"sql#instance","name":"i","selfLink":"x","settings":{"tier":"small"},"maintenanceVersion":"5"}"#;
    let operation = operation("PUT", SQL, r#"{"name":"i","settings":{"tier":"small"}}"#);
    let change = of(&operation, Some(&json(before))).expect("it can be told");
    assert_eq!(lines(&change), ["maintenanceVersion: 5 > -"]);
    assert!(change.note.is_some_and(|note| note.contains("replaces")));
}

#[test]
fn a_delete_tells_what_will_be_gone() {
    let before = r#"{"name":"i","labels":{"env":"prod"},"deletionProtection":true,"creationTimestamp":"2026-01-01T00:00:00Z",
        "machineType":"e2-medium","disks":[{"x":"y"}]}"#;
    assert_eq!(
        told("DELETE", VM, "", before),
        [
            "name: i > -",
            "deletionProtection: true > -",
            "creationTimestamp: 2026-01-01T00:00:00Z > -",
            "machineType: e2-medium > -",
            r#"labels: {"env": "prod"} > -"#,
        ]
    );
    let gone = of(&operation("DELETE", VM, ""), None).expect("it can be told");
    assert!(gone.edits.is_empty() && gone.note.is_some());
}

#[test]
fn a_setter_changes_one_field() {
    let before = r#"{"labels":{"a":"b"},"tags":{"items":["x","y"],"fingerprint":"f"},"deletionProtection":true}"#;
    let url = |verb: &str| format!("{VM}/{verb}");
    assert_eq!(
        told(
            "POST",
            &url("setLabels"),
            r#"{"labels":{},"labelFingerprint":"f"}"#,
            before
        ),
        ["labels.a: b > -"]
    );
    assert_eq!(
        told(
            "POST",
            &url("setTags"),
            r#"{"items":["y"],"fingerprint":"f"}"#,
            before
        ),
        ["tags.items[0]: x > -"]
    );
    assert_eq!(
        told(
            "POST",
            &url("setDeletionProtection?deletionProtection=false"),
            "",
            before
        ),
        ["deletionProtection: true > false"]
    );
    let odd = operation(
        "POST",
        &url("setShieldedInstanceIntegrityPolicy"),
        r#"{"a":1}"#,
    );
    assert!(of(&odd, Some(&json("{}"))).is_err());
}

fn custom(method: &str, url: &str, body: &str, before: &str) -> Option<Vec<String>> {
    let operation = operation(method, url, body);
    assert_eq!(Needs::of(&operation), None, "{url}");
    of_custom(&operation, &json(before)).map(|change| lines(&change))
}

#[test]
fn a_custom_verb_changes_the_part_that_its_name_says() {
    const MACHINE: &str = r#"{"name":"i","resourcePolicies":["p1","p2"],"displayDevice":{"enableDisplay":false},
        "networkInterfaces":[{"name":"nic0","network":"n"},{"name":"nic1","network":"m"}],
        "disks":[{"deviceName":"boot","boot":true},{"deviceName":"data"}]}"#;
    let vm = |verb: &str| format!("{VM}/{verb}");
    for (method, verb, body, expected) in [
        (
            "POST",
            "attachDisk",
            r#"{"source":"d"}"#,
            vec![r#"disks: - > {"source": "d"}"#],
        ),
        (
            "POST",
            "detachDisk?deviceName=data",
            "",
            vec![r#"disks[1]: {"deviceName": "data"} > -"#],
        ),
        (
            "POST",
            "addResourcePolicies",
            r#"{"resourcePolicies":["p3"]}"#,
            vec!["resourcePolicies: - > p3"],
        ),
        (
            "POST",
            "removeResourcePolicies",
            r#"{"resourcePolicies":["p2"]}"#,
            vec!["resourcePolicies[1]: p2 > -"],
        ),
        (
            "PATCH",
            "updateDisplayDevice",
            r#"{"enableDisplay":true}"#,
            vec!["displayDevice.enableDisplay: false > true"],
        ),
        (
            "PATCH",
            "updateNetworkInterface?networkInterface=nic1",
            r#"{"network":"x"}"#,
            vec!["networkInterfaces[1].network: m > x"],
        ),
    ] {
        assert_eq!(
            custom(method, &vm(verb), body, MACHINE).expect(verb),
            expected,
            "{verb}"
        );
    }
    // What it leads to, no name tells.
    assert_eq!(custom("POST", &vm("stop"), "", MACHINE), None);
    assert_eq!(
        custom("POST", &vm("detachDisk?deviceName=other"), "", MACHINE),
        None
    );
}

#[test]
fn what_a_custom_verb_brings_is_found_by_name() {
    const SUBSCRIPTION: &str =
        "pubsub.googleapis.com/v1/projects/p/subscriptions/s:modifyPushConfig";
    let before = r#"{"pushConfig":{"pushEndpoint":"https://a"},"ackDeadlineSeconds":10}"#;
    let body = r#"{"pushConfig":{"pushEndpoint":"https://b/?token=hunter"}}"#;
    assert_eq!(
        custom("POST", SUBSCRIPTION, body, before).expect("told"),
        ["pushConfig.pushEndpoint: https://a > https://b/?token=[masked]"]
    );
    const DISK: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/disks/d/resize";
    assert_eq!(
        custom(
            "POST",
            DISK,
            r#"{"sizeGb":"200"}"#,
            r#"{"name":"d","sizeGb":"100"}"#
        )
        .expect("told"),
        ["sizeGb: 100 > 200"]
    );
    const GROUP: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/instanceGroupManagers/g/resize?size=9";
    assert_eq!(
        custom("POST", GROUP, "", r#"{"targetSize":3}"#).expect("told"),
        ["targetSize: 3 > 9"]
    );
    const MOVE: &str = "cloudresourcemanager.googleapis.com/v3/projects/p:move";
    assert_eq!(
        custom(
            "POST",
            MOVE,
            r#"{"destinationParent":"folders/2"}"#,
            r#"{"parent":"folders/1"}"#
        )
        .expect("told"),
        ["parent: folders/1 > folders/2"]
    );
    const ACCOUNT: &str =
        "iam.googleapis.com/v1/projects/p/serviceAccounts/s@p.iam.gserviceaccount.com:disable";
    assert_eq!(
        custom("POST", ACCOUNT, "{}", r#"{"email":"s"}"#).expect("told"),
        ["disabled: - > true"]
    );
    const INSERT: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/instances";
    assert_eq!(
        custom("POST", INSERT, r#"{"status":"x"}"#, r#"{"status":"UP"}"#),
        None
    );
}

#[test]
fn secrets_are_told_to_change_and_not_shown() {
    let before = r#"{"rootPassword":"hunter2","metadata":{"items":[{"key":"db-password","value":"hunter3"},{"key":"zone","value":"a"}]}}"#;
    let body = r#"{"rootPassword":"hunter4","metadata":{"items":[{"key":"db-password","value":"hunter5"},{"key":"zone","value":"b"}]},
        "replicaConfiguration":{"mysqlReplicaConfiguration":{"password":"hunter6","username":"u"}}}"#;
    let told = told("PATCH", SQL, body, before);
    assert_eq!(
        told,
        [
            "metadata.items[0].value: [masked] > [masked]",
            "metadata.items[1].value: a > b",
            r#"replicaConfiguration: - > {"mysqlReplicaConfiguration": {"password": [masked], "username": "u"}}"#,
            "rootPassword: [masked] > [masked]",
        ]
    );
    const USERS: &str = "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i/users?name=u";
    let user = operation("PUT", USERS, r#"{"host":"%"}"#);
    assert!(user.action.groups().contains(Group::Secret));
    let change = of(&user, Some(&json(r#"{"host":"10.0.0.1"}"#))).expect("it can be told");
    assert_eq!(lines(&change), ["host: [masked] > [masked]"]);
}

#[test]
fn what_cannot_be_told_says_why() {
    let unreadable = operation("PATCH", SQL, r#"{"a":1,"a":2}"#);
    assert!(of(&unreadable, Some(&json("{}"))).is_err_and(|why| why.contains("unreadable")));
    assert_eq!(
        Needs::of(&operation("POST", &format!("{VM}/stop"), "")),
        None
    );
    assert_eq!(Needs::of(&operation("GET", VM, "")), None);
    assert_eq!(Needs::of(&operation("DELETE", VM, "")), Some(Needs::Target));
    let policy = operation("POST", &format!("{VM}/setIamPolicy"), "{}");
    assert_eq!(Needs::of(&policy), Some(Needs::Policy));
}

#[test]
fn a_change_is_bounded() {
    let many = |n: usize| {
        let fields: Vec<_> = (0..500)
            .map(|at| format!(r#""f{at}":"{}""#, n.to_string().repeat(1000)))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    let operation = operation("PATCH", SQL, &many(1));
    let change = of(&operation, Some(&json(&many(2)))).expect("it can be told");
    assert_eq!((change.edits.len(), change.left_out), (MOST_EDITS, 300));
    let value = change.edits[0].after.as_deref().expect("a value");
    assert_eq!(value.chars().count(), LONGEST + 1);
}

proptest! {
    /// A merge patch that says everything of `after` gives `after`, whatever was there, but for what stays.
    #[test]
    fn a_merge_is_what_rfc_7396_says(before in diff::tests::any_json(), patch in diff::tests::any_json()) {
        let merged = plain(&merge(&plain(&before), &plain(&patch)));
        for (key, value) in plain(&patch).entries() {
            if !matches!(value, Json::Object(_)) {
                prop_assert_eq!(diff::entry(&merged, key), Some(value));
            }
        }
        prop_assert_eq!(plain(&merge(&merged, &Json::Object(vec![]))), match merged {
            Json::Object(_) => merged.clone(),
            _ => Json::Object(vec![]),
        });
    }

    #[test]
    fn no_text_of_a_secret_is_shown(before in diff::tests::any_json(), after in diff::tests::any_json()) {
        let hidden = |json: Json| Json::Object(vec![("password".into(), json)]);
        let change = Change::between(&hidden(before), &hidden(after), false);
        for edit in change.edits {
            for value in [edit.before, edit.after].into_iter().flatten() {
                let value = value.replace(MASKED, "").replace("null", "");
                let key_or_bracket = |c: char| "[]{}\":, abcd".contains(c);
                prop_assert!(value.chars().all(key_or_bracket), "{}", value);
                prop_assert!(!value.contains('1'));
            }
        }
    }

    #[test]
    fn any_change_is_told_or_not(before in diff::tests::any_json(), body in diff::tests::any_json()) {
        let mut asked = operation("PATCH", SQL, "{}");
        asked.json = Some(std::sync::Arc::new(body));
        for method in ["PATCH", "PUT"] {
            asked.method = method.into();
            let _ = of(&asked, Some(&before));
        }
        for verb in ["addTag", "removeTag", "updateTag", "enable", "resize"] {
            let mut asked = operation("POST", &format!("{VM}/stop?a=1"), "{}");
            asked.action = crate::operation::Action::new(format!("compute.instances.{verb}"), crate::groups::Groups::default());
            asked.json = Some(std::sync::Arc::new(before.clone()));
            let _ = of_custom(&asked, &before);
        }
    }
}

#[test]
fn of_a_statement_nothing_is_read_at_google() {
    let sql = crate::policy::suite::RawSql {
        text: "DELETE FROM orders WHERE id = 1".to_owned(),
        instance: Some("p:europe-west1:db".to_owned()),
        database: "shop".to_owned(),
        user: "app".to_owned(),
    };
    let operations = sql.operations().expect("a statement");
    assert_eq!(Needs::of(&operations[0]), None);
}
