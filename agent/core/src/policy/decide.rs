//! From the policies that match to a decision.

use std::{cell::OnceCell, collections::BTreeMap, fmt::Write as _};

use cedar_policy::{AuthorizationError, Authorizer, PolicySet};

use super::{
    Decision, Denial, Hold, HoldRule, Terms,
    annotations::{Mask, Role},
    entities::{Question, Represented},
    index::Slice,
    load::{Rule, place_of},
};
use crate::{
    identity::Principal,
    operation::{Action, Content, Operation},
};

/// A question that is made when the first policy has to be put to Cedar: many decisions follow from heads alone.
pub(super) struct Asked<'a> {
    make: &'a dyn Fn() -> Represented<Question>,
    made: OnceCell<Question>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(make: &'a dyn Fn() -> Represented<Question>) -> Self {
        let made = OnceCell::new();
        Self { make, made }
    }

    fn question(&self) -> Represented<&Question> {
        if let Some(question) = self.made.get() {
            return Ok(question);
        }
        let question = (self.make)()?;
        Ok(self.made.get_or_init(|| question))
    }
}

/// Whether the target has to be looked up before it can be decided: a policy has asked for it and nobody has looked.
pub(super) fn needs_target(rules: &[Rule], slices: &[&Slice], asked: &Asked) -> bool {
    matches!(weigh(rules, slices, asked), Err(Stop::Failed(rule, _)) if rule.asks.target)
}

/// First what denies and what permits; only then what holds, because Cedar names no permits once something forbids.
pub(super) fn decide(
    rules: &[Rule],
    slices: &[&Slice],
    asked: &Asked,
    principal: &Principal,
    operation: &Operation,
) -> Decision {
    match weigh(rules, slices, asked) {
        Ok(Matches { permits, .. }) if permits.is_empty() => {
            Decision::Deny(not_permitted(principal, operation))
        }
        Ok(Matches { permits, .. }) if is_blind(&permits, operation) => {
            Decision::Deny(unreadable(operation))
        }
        Ok(Matches { permits, holds }) if holds.is_empty() => Decision::Allow(terms(&permits)),
        Ok(Matches { permits, holds }) => Decision::Hold(Hold {
            rules: holds.into_iter().filter_map(hold_rule).collect(),
            terms: terms(&permits),
        }),
        Err(Stop::Forbidden(by)) => Decision::Deny(forbidden(&by, operation)),
        Err(Stop::Failed(rule, error)) => Decision::Deny(failed(rule, &error, operation)),
        Err(Stop::Unaskable(error)) => Decision::Deny(unaskable(&*error, operation)),
    }
}

/// What cannot be put to the policies is denied.
pub(super) fn unaskable(error: &dyn std::error::Error, operation: &Operation) -> Denial {
    Denial {
        reason: format!(
            "{} could not be put to the policies, so it is denied: {error}",
            what(operation)
        ),
        policies: Vec::new(),
    }
}

struct Matches<'a> {
    permits: Vec<&'a Rule>,
    holds: Vec<&'a Rule>,
}

enum Stop<'a> {
    Forbidden(Vec<&'a Rule>),
    Failed(&'a Rule, String),
    Unaskable(Box<dyn std::error::Error + Send + Sync>),
}

fn weigh<'a>(rules: &'a [Rule], slices: &[&Slice], asked: &Asked) -> Result<Matches<'a>, Stop<'a>> {
    let certain = slices.iter().flat_map(|slice| &slice.certain).copied();
    let (certain_holds, certain): (Vec<usize>, Vec<usize>) =
        certain.partition(|place| rules[*place].holds());
    let sets = slices.iter().filter_map(|slice| slice.verdict.as_deref());
    let verdict = ask(rules, certain, sets, asked)?;
    let (forbids, permits): (Vec<_>, Vec<_>) = verdict.into_iter().partition(|rule| rule.forbids());
    if !forbids.is_empty() {
        return Err(Stop::Forbidden(forbids));
    }
    let sets = slices.iter().filter_map(|slice| slice.holds.as_deref());
    let holds = ask(rules, certain_holds, sets, asked)?;
    Ok(Matches { permits, holds })
}

/// The policies that match, in the order read: those that do for `certain`, and of `sets` what Cedar says. Of a set with a forbid that
/// matches, the forbids only. A policy that fails to evaluate may be the one that forbids: nothing is allowed then.
fn ask<'a, 's>(
    rules: &'a [Rule],
    certain: Vec<usize>,
    sets: impl Iterator<Item = &'s PolicySet>,
    asked: &Asked,
) -> Result<Vec<&'a Rule>, Stop<'a>> {
    let mut matching = certain;
    let mut failed = BTreeMap::new();
    for set in sets {
        let question = asked.question().map_err(Stop::Unaskable)?;
        let response = Authorizer::new().is_authorized(&question.request, set, &question.entities);
        matching.extend(response.diagnostics().reason().map(place_of));
        for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
            failed.insert(place_of(error.policy_id()), error.inner().to_string());
        }
    }
    // The one that a look-up may mend comes first.
    let first = failed
        .into_iter()
        .min_by_key(|(place, _)| (!rules[*place].asks.target, *place));
    if let Some((place, error)) = first {
        return Err(Stop::Failed(&rules[place], error));
    }
    // One that names several actions may be in several slices.
    matching.sort_unstable();
    matching.dedup();
    Ok(matching.into_iter().map(|place| &rules[place]).collect())
}

/// Whether a change would be let pass by nothing that knows that Holdpoint cannot read it. This is no policy, so that no
/// operator can lose it: what the rules about fields would have forbidden may stand in what cannot be read.
fn is_blind(permits: &[&Rule], operation: &Operation) -> bool {
    is_unread_change(operation) && !permits.iter().any(|rule| rule.asks.unreadable)
}

/// Whether it changes something, and Holdpoint cannot read what.
pub(super) fn is_unread_change(operation: &Operation) -> bool {
    matches!(operation.content, Content::Unreadable(_))
        && operation.action.mutates()
        && operation.action.id() != Action::UNKNOWN
}

fn terms(permits: &[&Rule]) -> Terms {
    let mut terms = Terms::default();
    for rule in permits {
        terms.policies.push(rule.reference.clone());
        if let Role::Permit { mask, record } = &rule.role {
            match mask {
                Mask::Unsaid => {}
                Mask::Nothing => terms.unmasked = true,
                Mask::Set(name) => drop(terms.masks.insert(name.clone())),
            }
            terms.record = terms.record.max(*record);
        }
    }
    terms
}

pub(super) fn hold_rule(rule: &Rule) -> Option<HoldRule> {
    match &rule.role {
        Role::Hold {
            group,
            min_approvals,
            hold_for,
            reason,
            grantable,
        } => Some(HoldRule {
            policy: rule.reference.clone(),
            group: group.clone(),
            min_approvals: *min_approvals,
            hold_for: *hold_for,
            reason: reason.clone(),
            grantable: grantable.clone(),
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

fn unreadable(operation: &Operation) -> Denial {
    let why = match &operation.content {
        Content::Unreadable(why) => why,
        _ => "",
    };
    Denial {
        reason: format!(
            "{} is denied because Holdpoint cannot read what it says: {} (only a policy that asks for context.unreadable \
             permits such a change)",
            what(operation),
            shown(why)
        ),
        policies: Vec::new(),
    }
}

fn failed(rule: &Rule, error: &str, operation: &Operation) -> Denial {
    let because = match operation.target.problem() {
        Some(why) if rule.asks.target => format!(
            "policy {} asks about its target, which could not be looked up: {}",
            rule.reference,
            shown(why)
        ),
        _ => format!(
            "policy {} could not be evaluated: {}",
            rule.reference,
            shown(error)
        ),
    };
    Denial {
        reason: format!("{} is denied because {because}", what(operation)),
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
