//! Traits are strings to Cedar: nobody else notices that one does not exist.

use cedar_policy::Policy;
use serde_json::Value;

use crate::operation::Trait;

/// The strings that `context.traits` is asked for in a policy and that name no trait.
pub(super) fn unknown(policy: &Policy) -> Vec<String> {
    let mut asked = Vec::new();
    // Every policy that was parsed from text has a JSON form
    // (https://docs.cedarpolicy.com/policies/json-format.html).
    if let Ok(json) = policy.to_json() {
        collect(&json, &mut asked);
    }
    asked.retain(|name| Trait::named(name).is_none());
    asked
}

fn collect(json: &Value, asked: &mut Vec<String>) {
    match json {
        Value::Object(object) => {
            for operator in ["contains", "containsAll", "containsAny"] {
                if let Some(call) = object.get(operator)
                    && is_traits(&call["left"])
                {
                    strings(&call["right"], asked);
                }
            }
            object.values().for_each(|value| collect(value, asked));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, asked)),
        _ => {}
    }
}

fn is_traits(expression: &Value) -> bool {
    expression["."]["attr"] == "traits" && expression["."]["left"]["Var"] == "context"
}

fn strings(expression: &Value, found: &mut Vec<String>) {
    match expression {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(object) => object.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}
