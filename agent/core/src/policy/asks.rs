//! What a policy looks at: found out from its JSON form
//! (<https://docs.cedarpolicy.com/policies/json-format.html>), so that nobody decides without what a policy asks about.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

/// What is not known about an operation that is judged again from the record. Nothing is missing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Groups or claims of the principal.
    pub principal: bool,
    /// What the resource's name is in: its project, and where it is.
    pub resource: bool,
    /// Fields of the body.
    pub body: Gap,
    /// Parameters of the query.
    pub query: Gap,
    /// The attributes of `context` that are known, apart from `body` and `query`; all of them if absent.
    pub known: Option<BTreeSet<&'static str>>,
}

/// What is not known of some fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gap {
    /// All is known.
    #[default]
    None,
    /// That they are there, but not the values of these.
    Values(BTreeSet<String>),
    /// Not even which there are.
    All,
}

/// What a policy looks at beyond its scope.
#[derive(Debug, Default)]
pub(super) struct Asks {
    principal: bool,
    resource: bool,
    body: Tags,
    query: Tags,
    attributes: BTreeSet<String>,
    /// `context` as a whole.
    everything: bool,
}

/// The fields that are looked at.
#[derive(Debug, Default)]
struct Tags {
    values: BTreeSet<String>,
    presence: BTreeSet<String>,
    /// Fields whose names are only known once it is evaluated.
    any: bool,
}

impl Asks {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut asks = Self::default();
        match policy.to_json() {
            Ok(json) => {
                asks.principal = json["principal"]["op"] != "All";
                asks.resource = json["resource"]["op"] != "All";
                asks.walk(&json["conditions"]);
            }
            // Every policy that was parsed from text has a JSON form; one without may ask for anything.
            Err(_) => asks.everything = true,
        }
        asks
    }

    /// The fields of the body that it asks for by name.
    pub(super) fn body_fields(&self) -> impl Iterator<Item = &str> {
        self.body.names()
    }

    /// The parameters of the query that it asks for by name.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.query.names()
    }

    /// The first thing it asks about that is not known, in the words of policies.
    pub(super) fn unanswered(&self, gaps: &Gaps) -> Option<String> {
        if self.principal && gaps.principal {
            return Some("principal".to_owned());
        }
        if self.resource && gaps.resource {
            return Some("resource".to_owned());
        }
        if let Some(field) = self.body.unanswered(&gaps.body) {
            return Some(format!("context.body {field}"));
        }
        if let Some(field) = self.query.unanswered(&gaps.query) {
            return Some(format!("context.query {field}"));
        }
        let known = gaps.known.as_ref()?;
        if self.everything {
            return Some("context".to_owned());
        }
        let missing = |asked: &&String| !known.contains(&asked.as_str());
        let attribute = self.attributes.iter().find(missing)?;
        Some(format!("context.{attribute}"))
    }

    fn walk(&mut self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(object) => {
                for (operator, operands) in object {
                    self.operation(operator, operands);
                }
            }
            _ => {}
        }
    }

    fn operation(&mut self, operator: &str, operands: &Value) {
        let left = &operands["left"];
        match operator {
            "Var" if operands == "principal" => self.principal = true,
            "Var" if operands == "resource" => self.resource = true,
            "Var" if operands == "context" => self.everything = true,
            // A literal is no expression.
            "Value" => {}
            "." | "has" if left["Var"] == "context" => self.attribute(&operands["attr"]),
            // Its name and host are always known.
            "." if left["Var"] == "resource"
                && matches!(operands["attr"].as_str(), Some("name" | "host")) => {}
            "hasTag" | "getTag" => match self.tags(left) {
                Some(tags) => {
                    tags.ask(operator, &operands["right"]);
                    self.walk(&operands["right"]);
                }
                None => self.walk(operands),
            },
            _ => self.walk(operands),
        }
    }

    fn attribute(&mut self, name: &Value) {
        match name.as_str() {
            // As a whole.
            Some("body") => self.body.any = true,
            Some("query") => self.query.any = true,
            Some(name) => drop(self.attributes.insert(name.to_owned())),
            None => self.everything = true,
        }
    }

    fn tags(&mut self, expression: &Value) -> Option<&mut Tags> {
        let access = &expression["."];
        if access["left"]["Var"] != "context" {
            return None;
        }
        match access["attr"].as_str()? {
            "body" => Some(&mut self.body),
            "query" => Some(&mut self.query),
            _ => None,
        }
    }
}

impl Tags {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.values.union(&self.presence).map(String::as_str)
    }

    fn ask(&mut self, operator: &str, name: &Value) {
        match name["Value"].as_str() {
            Some(name) if operator == "hasTag" => drop(self.presence.insert(name.to_owned())),
            Some(name) => drop(self.values.insert(name.to_owned())),
            None => self.any = true,
        }
    }

    fn unanswered(&self, gap: &Gap) -> Option<&str> {
        match gap {
            Gap::None => None,
            Gap::Values(missing) if self.any && !missing.is_empty() => Some("(any field)"),
            Gap::Values(missing) => {
                let asked = self.values.iter().find(|name| missing.contains(*name));
                asked.map(String::as_str)
            }
            Gap::All if self.any => Some("(any field)"),
            Gap::All => {
                let mut asked = self.values.iter().chain(&self.presence);
                asked.next().map(String::as_str)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(condition: &str) -> Asks {
        let text = format!("forbid(principal, action, resource) when {{ {condition} }};");
        Asks::of(&text.parse().expect("a policy"))
    }

    fn replay(body: Gap) -> Gaps {
        Gaps {
            body,
            known: Some(["method", "unreadable"].into()),
            ..Gaps::default()
        }
    }

    #[test]
    fn what_is_not_known_and_asked_for_is_found() {
        let withheld = || Gap::Values(["a.b".to_owned()].into());
        for (condition, gap, missing) in [
            (r#"context.body.hasTag("a.b")"#, withheld(), None),
            (
                r#"context.body.hasTag("a.b") && context.body.getTag("a.b").contains("x")"#,
                withheld(),
                Some("context.body a.b"),
            ),
            (
                r#"context.body.getTag("c").contains("x")"#,
                withheld(),
                None,
            ),
            (
                r#"context.body.hasTag("c")"#,
                Gap::All,
                Some("context.body c"),
            ),
            (
                r#"context.body.hasTag(context.method)"#,
                withheld(),
                Some("context.body (any field)"),
            ),
            (
                r#"{b: context.body}.b.hasTag("a.b")"#,
                withheld(),
                Some("context.body (any field)"),
            ),
            (
                r#"if true then context.target.x == "y" else false"#,
                Gap::None,
                Some("context.target"),
            ),
            ("!(context has now)", Gap::None, Some("context.now")),
            (r#"[context].contains({})"#, Gap::None, Some("context")),
            (
                r#"context.unreadable && context.method == "GET""#,
                Gap::All,
                None,
            ),
        ] {
            let found = asks(condition).unanswered(&replay(gap));
            assert_eq!(found.as_deref(), missing, "{condition}");
        }
    }

    #[test]
    fn principal_and_resource_are_noticed_wherever_they_stand() {
        let gaps = Gaps {
            principal: true,
            resource: true,
            ..Gaps::default()
        };
        for text in [
            r#"permit(principal in Group::"g", action, resource);"#,
            r#"permit(principal, action, resource in Project::"p");"#,
            r#"permit(principal, action, resource) when { principal.hasTag("x") };"#,
            r#"permit(principal, action, resource) unless { resource has project };"#,
        ] {
            let asks = Asks::of(&text.parse().expect("a policy"));
            assert!(asks.unanswered(&gaps).is_some(), "{text}");
        }
        let named = asks(r#"resource.name like "//*" && resource.host == "h""#);
        assert_eq!(named.unanswered(&gaps), None);
        assert_eq!(asks("true").unanswered(&gaps), None);
    }
}
