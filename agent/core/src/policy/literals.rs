//! Traits and kinds of data are strings to Cedar: nobody else notices that one does not exist.

use cedar_policy::Policy;
use serde_json::Value;

use crate::operation::Trait;

/// The strings that `context.traits` is asked for in a policy and that name no trait.
pub(super) fn unknown_traits(policy: &Policy) -> Vec<String> {
    let mut asked = of(policy, "traits");
    asked.retain(|name| Trait::named(name).is_none());
    asked
}

/// The strings that a set of the context is asked for in a policy.
pub(super) fn of(policy: &Policy, set: &str) -> Vec<String> {
    let mut asked = Vec::new();
    // Every policy that was parsed from text has a JSON form
    // (https://docs.cedarpolicy.com/policies/json-format.html).
    if let Ok(json) = policy.to_json() {
        collect(&json, set, &mut asked);
    }
    asked
}

fn collect(json: &Value, set: &str, asked: &mut Vec<String>) {
    match json {
        Value::Object(object) => {
            for operator in ["contains", "containsAll", "containsAny"] {
                if let Some(call) = object.get(operator)
                    && is_set(&call["left"], set)
                {
                    strings(&call["right"], asked);
                }
            }
            object.values().for_each(|value| collect(value, set, asked));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, set, asked)),
        _ => {}
    }
}

fn is_set(expression: &Value, set: &str) -> bool {
    expression["."]["attr"] == set && expression["."]["left"]["Var"] == "context"
}

fn strings(expression: &Value, found: &mut Vec<String>) {
    match expression {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(object) => object.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}
