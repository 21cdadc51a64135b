//! Why an operation got its decision: each policy on its own, part by part.

mod advice;

use std::{collections::BTreeSet, fmt};

use cedar_policy::{AuthorizationError, Authorizer, Policy, PolicyId, PolicySet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Policies, PolicyRef,
    annotations::Role,
    asks::{Asks, Gaps},
    entities::Question,
    load::Rule,
    replay::{About, answer},
};
use crate::{identity::Principal, operation::Operation};

/// A decision without its terms, from the least to the most strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may happen.
    Allow,
    /// It waits for people.
    Hold,
    /// It may not happen.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        })
    }
}

/// What a policy does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It permits.
    Permit,
    /// It denies.
    Forbid,
    /// It holds.
    Hold,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
            Self::Hold => "hold",
        })
    }
}

/// Whether something holds for the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "answer", content = "why")]
pub enum Match {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It could not be evaluated, which denies the operation.
    Failed(String),
    /// It asks about something that is not known.
    Unknown(String),
}

/// A policy that could have applied: its head may be about this principal and this action.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The policy.
    pub policy: PolicyRef,
    /// What it would do.
    pub effect: Effect,
    /// Its `@reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The group it asks, for a hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether it matches: its scope and all of its conditions.
    pub matches: Match,
    /// Whether what is in the parentheses holds.
    pub scope: Scope,
    /// Its conditions, in order.
    pub conditions: Vec<Condition>,
}

/// Whether the three parts of a policy's head hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// The principal's.
    pub principal: bool,
    /// The action's.
    pub action: bool,
    /// The resource's.
    pub resource: bool,
}

impl Scope {
    pub(super) fn holds(self) -> bool {
        self.principal && self.action && self.resource
    }
}

/// A `when` or an `unless`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// As its author wrote it, on one line and without comments.
    pub text: String,
    /// Whether it lets the policy match.
    pub is_met: Match,
    /// Of several things that have to hold, the first that does not, as Cedar prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// Why an operation got its decision.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What was decided; all that is possible, where not enough is known.
    pub verdicts: BTreeSet<Verdict>,
    /// The policies that could have applied, in the order read.
    pub findings: Vec<Finding>,
    /// How to get another decision.
    pub advice: Vec<String>,
}

impl Policies {
    /// What keeps the policy with this id from matching; `None` where it does match.
    ///
    /// # Errors
    /// When there is no such policy, or Cedar cannot represent the operation.
    pub fn obstacles(
        &self,
        id: &str,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> Result<Option<String>, String> {
        let rule = self.rules.iter().find(|it| it.reference.id == id);
        let rule = rule.ok_or_else(|| format!("there is no policy {id}"))?;
        let question =
            Question::whole(principal, operation, now, None).map_err(|error| error.to_string())?;
        Ok(finding(rule, &question, &Gaps::default()).shortfall())
    }

    /// Tells what each policy that could apply makes of an operation of which all is known but for `gaps`.
    ///
    /// # Errors
    /// When Cedar cannot represent the operation, which denies it.
    pub fn explain(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
        gaps: &Gaps,
    ) -> Result<Explanation, String> {
        let question =
            Question::whole(principal, operation, now, None).map_err(|error| error.to_string())?;
        let about = About::new(principal, operation);
        let candidates = self
            .rules
            .iter()
            .filter(|it| about.may_be_met_by(&it.policy));
        let findings: Vec<_> = candidates
            .map(|rule| finding(rule, &question, gaps))
            .collect();
        let verdicts = possible(findings.iter().map(|it| (it.effect, &it.matches)));
        let advice = advice::advice(&verdicts, &findings, operation);
        Ok(Explanation {
            verdicts,
            findings,
            advice,
        })
    }
}

/// From what each policy makes of it to every decision that is possible: first what denies and what permits, then what
/// holds.
pub(super) fn possible<'a>(
    matches: impl Iterator<Item = (Effect, &'a Match)>,
) -> BTreeSet<Verdict> {
    let mut certain = BTreeSet::new();
    let mut uncertain = BTreeSet::new();
    for (effect, matches) in matches {
        match matches {
            Match::No => {}
            Match::Failed(_) => return [Verdict::Deny].into(),
            Match::Yes => drop(certain.insert(effect as u8)),
            Match::Unknown(_) => drop(uncertain.insert(effect as u8)),
        }
    }
    let certainly = |effect: Effect| certain.contains(&(effect as u8));
    let perhaps = |effect: Effect| uncertain.contains(&(effect as u8));
    if certainly(Effect::Forbid) {
        return [Verdict::Deny].into();
    }
    let mut verdicts = BTreeSet::new();
    if perhaps(Effect::Forbid) || !certainly(Effect::Permit) {
        verdicts.insert(Verdict::Deny);
    }
    if certainly(Effect::Permit) || perhaps(Effect::Permit) {
        if certainly(Effect::Hold) || perhaps(Effect::Hold) {
            verdicts.insert(Verdict::Hold);
        }
        if !certainly(Effect::Hold) {
            verdicts.insert(Verdict::Allow);
        }
    }
    verdicts
}

pub(super) fn effect(role: &Role) -> Effect {
    match role {
        Role::Permit { .. } => Effect::Permit,
        Role::Forbid { .. } => Effect::Forbid,
        Role::Hold { .. } => Effect::Hold,
    }
}

fn finding(rule: &Rule, question: &Question, gaps: &Gaps) -> Finding {
    let (reason, group) = match &rule.role {
        Role::Permit { .. } => (None, None),
        Role::Forbid { reason } => (reason.clone(), None),
        Role::Hold { reason, group, .. } => (reason.clone(), Some(group.clone())),
    };
    let parts = Parts::of(&rule.policy);
    Finding {
        policy: rule.reference.clone(),
        effect: effect(&rule.role),
        reason,
        group,
        matches: answer(rule, &Asks::of(&rule.policy), question, gaps),
        scope: parts.scope(question),
        conditions: parts.judged(&rule.policy.to_string(), question, gaps),
    }
}

/// Whether one policy matches. Cedar names a policy among its reasons when it does, and nothing else is asked.
pub(super) fn matches(policy: &Policy, question: &Question) -> Match {
    let alone = PolicySet::from_policies([policy.clone()]).expect("one id is unlike any other");
    let response = Authorizer::new().is_authorized(&question.request, &alone, &question.entities);
    if let Some(AuthorizationError::PolicyEvaluationError(error)) =
        response.diagnostics().errors().next()
    {
        return Match::Failed(error.inner().to_string());
    }
    match response.diagnostics().reason().next() {
        Some(_) => Match::Yes,
        None => Match::No,
    }
}

/// A policy in its JSON form, from which policies with only a part of it are made.
pub(super) struct Parts(Value);

impl Parts {
    pub(super) fn of(policy: &Policy) -> Self {
        Self(policy.to_json().unwrap_or_default())
    }

    pub(super) fn scope(&self, question: &Question) -> Scope {
        let holds = |part: &str| {
            let mut only = Self::everything();
            only[part] = self.0[part].clone();
            Self::policy(only).is_some_and(|policy| matches(&policy, question) == Match::Yes)
        };
        Scope {
            principal: holds("principal"),
            action: holds("action"),
            resource: holds("resource"),
        }
    }

    /// Policies with one of the conditions each.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Policy> {
        let conditions = self.0["conditions"].as_array().into_iter().flatten();
        conditions.filter_map(|condition| {
            let mut only = Self::everything();
            only["conditions"] = json!([condition]);
            Self::policy(only)
        })
    }

    fn judged(&self, text: &str, question: &Question, gaps: &Gaps) -> Vec<Condition> {
        let mut written = clauses(text);
        let bodies = self.0["conditions"].as_array().into_iter().flatten();
        let judged = self.conditions().zip(bodies).map(|(policy, condition)| {
            let is_met = match Asks::of(&policy).unanswered(gaps) {
                None => matches(&policy, question),
                Some(missing) => Match::Unknown(missing),
            };
            let because = (is_met == Match::No && condition["kind"] == "when")
                .then(|| Self::first_false(&condition["body"], question))
                .flatten();
            Condition {
                text: written.next().unwrap_or_else(|| printed(&policy)),
                is_met,
                because,
            }
        });
        judged.collect()
    }

    /// Of `a && b && c`, the first that is false.
    fn first_false(body: &Value, question: &Question) -> Option<String> {
        let parts = conjuncts(body);
        if parts.len() < 2 {
            return None;
        }
        parts.into_iter().find_map(|part| {
            let mut only = Self::everything();
            only["conditions"] = json!([{"kind": "when", "body": part}]);
            let policy = Self::policy(only)?;
            let text = printed(&policy);
            let text = text.strip_prefix("when {")?.strip_suffix('}')?;
            (matches(&policy, question) == Match::No).then(|| text.trim().to_owned())
        })
    }

    fn everything() -> Value {
        json!({
            "effect": "permit",
            "principal": {"op": "All"},
            "action": {"op": "All"},
            "resource": {"op": "All"},
            "conditions": [],
        })
    }

    fn policy(json: Value) -> Option<Policy> {
        Policy::from_json(Some(PolicyId::new("part")), json).ok()
    }
}

fn conjuncts(body: &Value) -> Vec<&Value> {
    match body.get("&&") {
        Some(both) => [conjuncts(&both["left"]), conjuncts(&both["right"])].concat(),
        None => vec![body],
    }
}

/// The only condition of a policy, as Cedar prints it.
fn printed(policy: &Policy) -> String {
    let text = policy.to_cedar().unwrap_or_default();
    let (_, text) = text.split_once(')').unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches(';').to_owned()
}

/// Each `when { ... }` and `unless { ... }` of a policy's text, on one line and without comments.
fn clauses(text: &str) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut clause = String::new();
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '"' => length = string_length(rest),
            '/' if rest.starts_with("//") => {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
                clause.push(' ');
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        clause.push_str(&rest[..length]);
        rest = &rest[length..];
        if depth == 0 && matches!(c, ')' | '}') {
            let words: Vec<_> = clause.split_whitespace().collect();
            if c == '}' {
                found.push(words.join(" "));
            }
            clause.clear();
        }
    }
    found.into_iter()
}

/// Of the string literal that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests;
