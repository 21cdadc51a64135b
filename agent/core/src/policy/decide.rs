//! From the policies that match to a decision.

use std::fmt::Write as _;

use cedar_policy::{AuthorizationError, Authorizer, PolicySet};
use jiff::Timestamp;

use super::{
    Decision, Denial, Hold, HoldRule, PolicyRef, Terms,
    annotations::Role,
    entities::Question,
    load::{Rule, rule_of},
    slice::Slice,
};
use crate::{
    identity::Principal,
    operation::{Action, Content, Operation},
};

/// First what denies and what permits; only then what holds, because Cedar names no permits once something forbids.
pub(super) fn decide(
    rules: &[Rule],
    slice: &Slice,
    principal: &Principal,
    operation: &Operation,
    now: Option<Timestamp>,
) -> Decision {
    let question = match Question::new(principal, operation, now, None) {
        Ok(question) => question,
        Err(error) => {
            return Decision::Deny(Denial {
                reason: format!(
                    "{} could not be put to the policies, so it is denied: {error}",
                    what(operation)
                ),
                policies: Vec::new(),
            });
        }
    };
    match weigh(rules, slice, &question) {
        Ok(Matches { permits, .. }) if permits.is_empty() => {
            Decision::Deny(not_permitted(principal, operation))
        }
        Ok(Matches { permits, holds }) if holds.is_empty() => Decision::Allow(terms(&permits)),
        Ok(Matches { permits, holds }) => Decision::Hold(Hold {
            rules: holds.into_iter().filter_map(hold_rule).collect(),
            terms: terms(&permits),
        }),
        Err(Stop::Forbidden(by)) => Decision::Deny(forbidden(&by, operation)),
        Err(Stop::Failed(rule, error)) => Decision::Deny(failed(rule, &error, operation)),
    }
}

struct Matches<'a> {
    permits: Vec<&'a Rule>,
    holds: Vec<&'a Rule>,
}

enum Stop<'a> {
    Forbidden(Vec<&'a Rule>),
    Failed(&'a Rule, String),
}

fn weigh<'a>(
    rules: &'a [Rule],
    slice: &Slice,
    question: &Question,
) -> Result<Matches<'a>, Stop<'a>> {
    let (allowed, matching) = ask(rules, &slice.verdict, question)?;
    if !allowed && !matching.is_empty() {
        return Err(Stop::Forbidden(matching));
    }
    let (_, holds) = ask(rules, &slice.holds, question)?;
    Ok(Matches {
        permits: matching,
        holds,
    })
}

/// Whether Cedar allows it, and the policies that decided. A policy that fails to evaluate may be the one that forbids:
/// nothing is allowed then.
fn ask<'a>(
    rules: &'a [Rule],
    policies: &PolicySet,
    question: &Question,
) -> Result<(bool, Vec<&'a Rule>), Stop<'a>> {
    if policies.is_empty() {
        return Ok((false, Vec::new()));
    }
    let response = Authorizer::new().is_authorized(&question.request, policies, &question.entities);
    if let Some(AuthorizationError::PolicyEvaluationError(error)) =
        response.diagnostics().errors().next()
    {
        let rule = rule_of(rules, error.policy_id());
        return Err(Stop::Failed(rule, error.inner().to_string()));
    }
    let reasons = response.diagnostics().reason();
    let mut matching: Vec<_> = reasons.map(|id| rule_of(rules, id)).collect();
    matching.sort_by(|a, b| place(&a.reference).cmp(&place(&b.reference)));
    let allowed = response.decision() == cedar_policy::Decision::Allow;
    Ok((allowed, matching))
}

fn place(policy: &PolicyRef) -> (&str, u32, &str) {
    (&policy.file, policy.line, &policy.id)
}

fn terms(permits: &[&Rule]) -> Terms {
    let mut terms = Terms::default();
    for rule in permits {
        terms.policies.push(rule.reference.clone());
        if let Role::Permit { mask, record } = &rule.role {
            terms.masks.extend(mask.clone());
            terms.record = terms.record.max(*record);
        }
    }
    terms
}

fn hold_rule(rule: &Rule) -> Option<HoldRule> {
    match &rule.role {
        Role::Hold {
            group,
            min_approvals,
            hold_for,
            reason,
        } => Some(HoldRule {
            policy: rule.reference.clone(),
            group: group.clone(),
            min_approvals: *min_approvals,
            hold_for: *hold_for,
            reason: reason.clone(),
        }),
        Role::Permit { .. } | Role::Forbid { .. } => None,
    }
}

fn forbidden(by: &[&Rule], operation: &Operation) -> Denial {
    let mut reason = format!("{} is forbidden by policy ", what(operation));
    for (index, rule) in by.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", and by policy " };
        write!(reason, "{separator}{}", rule.reference).expect("a string takes anything");
        if let Role::Forbid { reason: Some(why) } = &rule.role {
            write!(reason, ": {why}").expect("a string takes anything");
        }
    }
    if let Content::Unreadable(why) = &operation.content {
        write!(reason, " (its body could not be read: {})", shown(why))
            .expect("a string takes anything");
    }
    Denial {
        reason,
        policies: by.iter().map(|rule| rule.reference.clone()).collect(),
    }
}

fn not_permitted(principal: &Principal, operation: &Operation) -> Denial {
    let reason = if operation.action.id() == Action::UNKNOWN {
        format!(
            "{} is no Google API method that Holdpoint knows, and no policy permits {} there",
            what(operation),
            Action::UNKNOWN
        )
    } else {
        format!(
            "{} is not permitted: no policy permits it to {}",
            what(operation),
            shown(&principal.name())
        )
    };
    Denial {
        reason,
        policies: Vec::new(),
    }
}

fn failed(rule: &Rule, error: &str, operation: &Operation) -> Denial {
    Denial {
        reason: format!(
            "{} is denied because policy {} could not be evaluated: {}",
            what(operation),
            rule.reference,
            shown(error)
        ),
        policies: vec![rule.reference.clone()],
    }
}

/// What is asked for, for a person.
fn what(operation: &Operation) -> String {
    let host = shown(&operation.host);
    match operation.action.id() {
        Action::UNKNOWN => format!(
            "{} https://{host}{}",
            shown(&operation.method),
            shown(&operation.path)
        ),
        Action::NET_CONNECT => match operation.port {
            Some(port) => format!("A connection to {host}:{port} ({})", Action::NET_CONNECT),
            None => format!("A connection to {host} ({})", Action::NET_CONNECT),
        },
        Action::NET_RESOLVE => format!("Resolving {host} ({})", Action::NET_RESOLVE),
        action => format!("{action} on {}", shown(&operation.resource.name)),
    }
}

/// Text from outside, fit for a terminal: no control characters, not endless.
fn shown(text: &str) -> String {
    const LONGEST: usize = 240;
    let mut clean: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        clean.push('\u{2026}');
    }
    clean
}
