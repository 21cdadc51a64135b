//! What one would have to change to get another decision.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{Effect, Explanation, Finding, Match, Verdict};
use crate::operation::{Action, Operation};

pub(super) fn advice(
    verdicts: &BTreeSet<Verdict>,
    findings: &[Finding],
    operation: &Operation,
) -> Vec<String> {
    let mut advice = Vec::new();
    let matching = |effect: Effect| {
        findings
            .iter()
            .filter(move |it| it.effect == effect && it.matches == Match::Yes)
    };
    for finding in findings {
        if let Match::Failed(why) = &finding.matches {
            advice.push(format!(
                "mend {}: it cannot be evaluated ({why}), which denies whatever it could be about",
                finding.policy
            ));
        }
    }
    for finding in matching(Effect::Forbid) {
        advice.push(format!(
            "a forbid wins over every permit and cannot be approved: to let this pass, ask for something that {} is not \
             about, or except it there with `unless {{ ... }}`",
            finding.policy
        ));
    }
    if matching(Effect::Permit).next().is_none() {
        match nearest(findings, Effect::Permit) {
            Some(finding) => advice.push(format!(
                "nothing permits it; {} comes nearest: {}",
                finding.policy,
                finding.obstacles()
            )),
            None => advice.push("nothing permits it, and no permit comes near".to_owned()),
        }
        advice.push(format!(
            "a permit of its own would be: {}",
            permit(operation)
        ));
    }
    let holds: Vec<_> = matching(Effect::Hold).collect();
    if !holds.is_empty() && !verdicts.contains(&Verdict::Deny) {
        let groups: BTreeSet<_> = holds.iter().filter_map(|it| it.group.as_deref()).collect();
        let groups: Vec<_> = groups.into_iter().collect();
        advice.push(format!(
            "it waits for {}: to let it pass without, except it from {} with `unless {{ ... }}`",
            groups.join(" and for "),
            names(&holds)
        ));
    }
    if verdicts.len() == 1 && verdicts.contains(&Verdict::Allow) {
        advice.push(
            "to hold it, write a forbid with @hold(\"GROUP\") that is about it; to deny it, the same without @hold"
                .to_owned(),
        );
    }
    advice
}

impl Explanation {
    /// Which policy was nearest to giving `wanted` instead, and what keeps it from doing so.
    #[must_use]
    pub fn nearest_to(&self, wanted: Verdict) -> Option<String> {
        let effect = match wanted {
            Verdict::Allow => Effect::Permit,
            Verdict::Hold => Effect::Hold,
            Verdict::Deny => Effect::Forbid,
        };
        let permitted = self.matching(Effect::Permit).next().is_some();
        let effect = if wanted == Verdict::Hold && !permitted {
            Effect::Permit
        } else {
            effect
        };
        if wanted == Verdict::Allow && permitted {
            let holds: Vec<_> = self.matching(Effect::Hold).collect();
            return (!holds.is_empty()).then(|| format!("held by {}", names(&holds)));
        }
        nearest(&self.findings, effect)?.shortfall()
    }

    fn matching(&self, effect: Effect) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |it| it.effect == effect && it.matches == Match::Yes)
    }
}

impl Finding {
    /// That it does not match and why, unless it does.
    pub(super) fn shortfall(&self) -> Option<String> {
        let (effect, policy) = (self.effect, &self.policy);
        let text = || format!("{effect} {policy} does not match: {}", self.obstacles());
        (self.matches != Match::Yes).then(text)
    }

    /// Why it does not match, in words.
    #[must_use]
    pub fn obstacles(&self) -> String {
        let scope = [
            (self.scope.principal, "its principal is another"),
            (self.scope.action, "its action is another"),
            (self.scope.resource, "its resource is another"),
        ];
        let scope = scope.iter().filter(|(holds, _)| !holds);
        let scope = scope.map(|(_, words)| (*words).to_owned());
        let conditions = self.conditions.iter().filter_map(|it| match &it.is_met {
            Match::Yes => None,
            Match::No => Some(match &it.because {
                None => format!("`{}` is not met", it.text),
                Some(because) => format!("`{}` is not met: `{because}` is false", it.text),
            }),
            Match::Failed(why) => Some(format!("`{}` cannot be evaluated: {why}", it.text)),
            Match::Unknown(what) => Some(format!("`{}` asks about {what}, unknown", it.text)),
        });
        let all: Vec<_> = scope.chain(conditions).collect();
        all.join("; ")
    }

    fn misses(&self) -> usize {
        let scope = [self.scope.principal, self.scope.action, self.scope.resource];
        let conditions = self.conditions.iter().filter(|it| it.is_met != Match::Yes);
        scope.iter().filter(|holds| !**holds).count() + conditions.count()
    }
}

/// Of those that do not match, the one with the least in its way; the more that is asked and holds, the nearer.
fn nearest(findings: &[Finding], effect: Effect) -> Option<&Finding> {
    findings
        .iter()
        .filter(|it| it.effect == effect && it.matches == Match::No)
        .min_by_key(|it| (it.misses(), Reverse(it.conditions.len())))
}

fn names(findings: &[&Finding]) -> String {
    let names: Vec<_> = findings.iter().map(|it| it.policy.to_string()).collect();
    names.join(" and ")
}

fn permit(operation: &Operation) -> String {
    let action = operation.action.id();
    let place = match (&operation.resource.project, action) {
        (_, Action::NET_CONNECT | Action::NET_RESOLVE | Action::UNKNOWN) => {
            format!("resource in Host::{:?}", operation.host)
        }
        (Some(project), _) => format!("resource in Project::{project:?}"),
        (None, _) => "resource".to_owned(),
    };
    format!("permit(principal, action == Action::{action:?}, {place});")
}
