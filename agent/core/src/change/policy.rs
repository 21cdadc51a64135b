//! What a `setIamPolicy` changes: members by role and condition
//! (<https://cloud.google.com/iam/docs/reference/rest/v1/Policy>).

use std::collections::BTreeSet;

use super::{Change, Edit, mask};
use crate::fields::Json;

/// One grant: role, condition, member.
type Grant = (String, String, String);

/// What replacing the policy `before` by the one in a request's `body` changes.
pub(super) fn change(before: &Json, body: &Json) -> Change {
    let after = body.field("policy").unwrap_or(body);
    let mask = mask::of_body(body);
    let covers = |field: &str| mask.as_ref().is_none_or(|mask| mask.covers(field));
    let mut change = Change::default();
    if covers("bindings") {
        let (old, new) = (grants(before), grants(after));
        for grant in old.symmetric_difference(&new) {
            change.push(edit(grant, new.contains(grant)));
        }
    }
    // Without a mask they stay what they are, unless the request says something of them.
    if covers("auditConfigs") && (mask.is_some() || after.field("auditConfigs").is_some()) {
        let part = |policy: &Json| {
            let configs = policy.field("auditConfigs").cloned();
            Json::Object(
                configs
                    .map(|it| ("auditConfigs".to_owned(), it))
                    .into_iter()
                    .collect(),
            )
        };
        change.extend(Change::between(&part(before), &part(after), false));
    }
    change
}

fn edit((role, condition, member): &Grant, is_new: bool) -> Edit {
    let path = match condition.as_str() {
        "" => role.clone(),
        condition => format!("{role} if {condition}"),
    };
    let member = Some(member.clone());
    let (before, after) = if is_new {
        (None, member)
    } else {
        (member, None)
    };
    Edit {
        path,
        before,
        after,
    }
}

fn grants(policy: &Json) -> BTreeSet<Grant> {
    let bindings = policy
        .field("bindings")
        .map(Json::items)
        .unwrap_or_default();
    bindings.iter().flat_map(grants_of_binding).collect()
}

fn grants_of_binding(binding: &Json) -> impl Iterator<Item = Grant> {
    let text = |field: &str| {
        binding
            .field(field)
            .and_then(Json::text)
            .unwrap_or_default()
    };
    let role = text("role").to_owned();
    let condition = binding
        .field("condition")
        .map(condition)
        .unwrap_or_default();
    let members = binding
        .field("members")
        .map(Json::items)
        .unwrap_or_default();
    members
        .iter()
        .filter_map(Json::text)
        .map(move |member| (role.clone(), condition.clone(), member.to_owned()))
}

fn condition(condition: &Json) -> String {
    let text = |field: &str| {
        condition
            .field(field)
            .and_then(Json::text)
            .unwrap_or_default()
    };
    match (text("expression"), text("title"), text("description")) {
        ("", "", "") => String::new(),
        (expression, "", "") => expression.to_owned(),
        (expression, title, "") => format!("{expression} ({title})"),
        (expression, title, description) => format!("{expression} ({title}: {description})"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect("the test's JSON is good")
    }

    #[test]
    fn members_are_told_by_role_and_condition() {
        let before = json(
            r#"{"version":3,"etag":"a","bindings":[
                {"role":"roles/viewer","members":["user:a","user:b"]},
                {"role":"roles/editor","members":["user:c"],"condition":{"title":"t","expression":"e"}}]}"#,
        );
        let body = json(
            r#"{"policy":{"etag":"b","bindings":[
                {"role":"roles/editor","members":["user:c"]},
                {"role":"roles/viewer","members":["user:b"]},
                {"role":"roles/viewer","members":["user:d"]}]}}"#,
        );
        let change = change(&before, &body);
        let lines: Vec<_> = change
            .edits
            .iter()
            .map(|edit| {
                (
                    edit.path.as_str(),
                    edit.before.as_deref(),
                    edit.after.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                ("roles/editor", None, Some("user:c")),
                ("roles/editor if e (t)", Some("user:c"), None),
                ("roles/viewer", Some("user:a"), None),
                ("roles/viewer", None, Some("user:d")),
            ]
        );
    }

    #[test]
    fn a_mask_says_what_counts() {
        let before =
            json(r#"{"bindings":[{"role":"r","members":["a"]}],"auditConfigs":[{"service":"x"}]}"#);
        let body = json(r#"{"policy":{"bindings":[]},"updateMask":"auditConfigs,etag"}"#);
        let changed = change(&before, &body);
        assert_eq!(changed.edits.len(), 1);
        assert_eq!(changed.edits[0].path, "auditConfigs");
        let body = json(r#"{"policy":{"bindings":[]}}"#);
        let changed = change(&before, &body);
        assert_eq!(changed.edits.len(), 1);
        assert_eq!(changed.edits[0].path, "r");
    }

    fn any_policy() -> impl Strategy<Value = Json> {
        let text = |text: String| Json::Text(text);
        let members = prop::collection::vec("[a-d]".prop_map(text), 0..4).prop_map(Json::Array);
        let condition = prop::option::of("[xy]".prop_map(text));
        let binding =
            ("[rs]".prop_map(text), members, condition).prop_map(|(role, members, expression)| {
                let condition = expression.map(|expression| {
                    (
                        "condition".to_owned(),
                        Json::Object(vec![("expression".into(), expression)]),
                    )
                });
                let fixed = [("role".to_owned(), role), ("members".to_owned(), members)];
                Json::Object(fixed.into_iter().chain(condition).collect())
            });
        prop::collection::vec(binding, 0..4)
            .prop_map(|it| Json::Object(vec![("bindings".into(), Json::Array(it))]))
    }

    proptest! {
        #[test]
        fn carrying_it_out_gives_the_new_policy(before in any_policy(), after in any_policy()) {
            let mut grants_now: BTreeSet<_> = grants(&before);
            for edit in change(&before, &after).edits {
                let (role, condition) = edit.path.split_once(" if ").unwrap_or((&edit.path, ""));
                let grant = |member: &str| (role.to_owned(), condition.to_owned(), member.to_owned());
                if let Some(member) = &edit.before {
                    prop_assert!(grants_now.remove(&grant(member)));
                }
                if let Some(member) = &edit.after {
                    prop_assert!(grants_now.insert(grant(member)));
                }
            }
            prop_assert_eq!(grants_now, grants(&after));
        }
    }
}
