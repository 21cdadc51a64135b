//! What policies say about an operation that was recorded, of which not everything may be known.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint};
use jiff::Timestamp;

use super::{
    Policies, PolicyRef,
    asks::{Asks, Gaps},
    entities::{self, Question},
    explain::{Match, Parts, Verdict, effect, matches, possible},
    load::Rule,
};
use crate::{identity::Principal, operation::Operation};

/// Policies, ready to judge operations of the past.
pub struct Replay<'a> {
    policies: &'a Policies,
    /// Of each rule, in their order.
    asks: Vec<Asks>,
}

/// Every decision that is possible: one, where what is not known makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Possible {
    /// At least one.
    pub verdicts: BTreeSet<Verdict>,
    /// The policies that match for certain.
    pub policies: Vec<PolicyRef>,
    /// What would have to be known for one decision, in the words of policies.
    pub missing: BTreeSet<String>,
}

impl Possible {
    /// The decision, if there is only one.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let mut verdicts = self.verdicts.iter();
        verdicts
            .next()
            .copied()
            .filter(|_| verdicts.next().is_none())
    }
}

impl Policies {
    /// Prepares to judge operations of the past.
    #[must_use]
    pub fn replay(&self) -> Replay<'_> {
        Replay {
            policies: self,
            asks: self.rules.iter().map(|it| Asks::of(&it.policy)).collect(),
        }
    }
}

impl Replay<'_> {
    /// Judges an operation of which `gaps` are not known. Never a guess: a policy that asks about one of them may match or may
    /// not.
    #[must_use]
    pub fn judge(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
        gaps: &Gaps,
    ) -> Possible {
        // Its groups say which policies could apply at all.
        if gaps.principal {
            return Possible {
                verdicts: [Verdict::Allow, Verdict::Hold, Verdict::Deny].into(),
                missing: ["principal".to_owned()].into(),
                policies: Vec::new(),
            };
        }
        let Ok(question) = Question::whole(principal, operation, now, None) else {
            return Possible {
                verdicts: [Verdict::Deny].into(),
                ..Possible::default()
            };
        };
        let about = About::new(principal, operation);
        let rules = self.policies.rules.iter().zip(&self.asks);
        let answers: Vec<_> = rules
            .filter(|(rule, _)| about.may_be_met_by(&rule.policy))
            .map(|(rule, asks)| (rule, answer(rule, asks, &question, gaps)))
            .collect();
        let verdicts = possible(answers.iter().map(|(rule, it)| (effect(&rule.role), it)));
        let certain = answers.iter().filter(|(_, it)| *it == Match::Yes);
        let missing = answers.iter().filter_map(|(_, it)| match it {
            Match::Unknown(what) => Some(what.clone()),
            _ => None,
        });
        Possible {
            missing: if verdicts.len() > 1 {
                missing.collect()
            } else {
                BTreeSet::new()
            },
            policies: certain.map(|(rule, _)| rule.reference.clone()).collect(),
            verdicts,
        }
    }
}

/// Who asks for what. What it is done to is left open: it is worth showing that a policy is about something else, and of the
/// past it may not be known.
pub(super) struct About {
    principal: Vec<EntityUid>,
    action: Vec<EntityUid>,
}

fn uids(names: &[entities::Name]) -> Vec<EntityUid> {
    names.iter().map(entities::Name::uid).collect()
}

impl About {
    pub(super) fn new(principal: &Principal, operation: &Operation) -> Self {
        Self {
            principal: uids(&entities::principal_names(principal)),
            action: uids(&entities::action_names(&operation.action)),
        }
    }

    pub(super) fn may_be_met_by(&self, policy: &Policy) -> bool {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => self.principal.contains(&uid),
        };
        let action = match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => self.action.contains(&uid),
            ActionConstraint::In(uids) => uids.iter().any(|uid| self.action.contains(uid)),
        };
        principal && action
    }
}

/// Whether a rule matches, as far as that is known.
pub(super) fn answer(rule: &Rule, asks: &Asks, question: &Question, gaps: &Gaps) -> Match {
    match asks.unanswered(gaps) {
        None => matches(&rule.policy, question),
        Some(missing) => as_far_as_known(rule, question, gaps, missing),
    }
}

/// A policy that asks about what is `missing` does not match all the same when what Cedar looks at before says so: the
/// scope, then the conditions in their order.
fn as_far_as_known(rule: &Rule, question: &Question, gaps: &Gaps, missing: String) -> Match {
    let parts = Parts::of(&rule.policy);
    if !gaps.resource && !parts.scope(question).holds() {
        return Match::No;
    }
    for condition in parts.conditions() {
        if Asks::of(&condition).unanswered(gaps).is_some() {
            break;
        }
        let answer = matches(&condition, question);
        if answer != Match::Yes {
            return answer;
        }
    }
    Match::Unknown(missing)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{
        Decision,
        asks::Gap,
        tests::{MANY, any_operation, any_principal, load, operation, principal},
    };

    const POLICIES: &str = r#"
@id("deletes") permit(principal in Group::"agents", action in Action::"delete", resource);
@id("hold") @hold("dba") forbid(principal, action in Action::"delete", resource);
"#;

    fn judge(more: &str, gaps: &Gaps) -> Possible {
        let policies = load(&format!("{POLICIES}{more}"));
        let asked = operation("sql.instances.delete");
        policies.replay().judge(&principal(), &asked, None, gaps)
    }

    fn without_body() -> Gaps {
        Gaps {
            body: Gap::All,
            known: Some(["method"].into()),
            ..Gaps::default()
        }
    }

    #[test]
    fn what_makes_no_difference_need_not_be_known() {
        assert_eq!(judge("", &without_body()).verdict(), Some(Verdict::Hold));
        let asks = r#"forbid(principal, action, resource) when { context.body.hasTag("x") };"#;
        let open = judge(asks, &without_body());
        assert_eq!(open.verdict(), None);
        assert_eq!(open.verdicts, [Verdict::Hold, Verdict::Deny].into());
        assert_eq!(open.missing, ["context.body x".to_owned()].into());
        let known = judge(asks, &Gaps::default());
        assert_eq!(known.verdict(), Some(Verdict::Hold));
        let elsewhere = asks.replace(", resource)", ", resource in Project::\"other\")");
        let settled = judge(&elsewhere, &without_body());
        assert_eq!(settled.verdict(), Some(Verdict::Hold));
        let before = asks.replace("when", r#"when { context.method == "PUT" } when"#);
        let settled = judge(&before, &without_body());
        assert_eq!(settled.verdict(), Some(Verdict::Hold));
    }

    #[test]
    fn nothing_is_said_without_the_principal() {
        let gaps = Gaps {
            principal: true,
            ..Gaps::default()
        };
        assert_eq!(judge("", &gaps).verdicts.len(), 3);
    }

    pub(in crate::policy) fn verdict(decision: &Decision) -> Verdict {
        match decision {
            Decision::Allow(_) => Verdict::Allow,
            Decision::Hold(_) => Verdict::Hold,
            Decision::Deny(_) => Verdict::Deny,
        }
    }

    proptest! {
        #[test]
        fn with_everything_known_it_is_the_decision(who in any_principal(), operation in any_operation()) {
            let judged = MANY.replay().judge(&who, &operation, None, &Gaps::default());
            prop_assert_eq!(judged.verdict(), Some(verdict(&MANY.decide(&who, &operation))));
        }

        /// Whatever turns out to be the case, the decision was among those said to be possible.
        #[test]
        fn what_is_left_open_covers_what_could_be(who in any_principal(), operation in any_operation(), path in "([a-e][0-7]){0,3}") {
            let gaps = Gaps { known: Some(["method"].into()), ..Gaps::default() };
            let judged = MANY.replay().judge(&who, &operation, None, &gaps);
            let revealed = Operation { path, ..operation };
            prop_assert!(judged.verdicts.contains(&verdict(&MANY.decide(&who, &revealed))));
        }
    }
}
