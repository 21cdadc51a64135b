//! Grants: a reviewer lets the same principal do more of the same for a while, without being asked each time.
//!
//! A grant stands in for the hold rules it was made under and for no others, and only where each of them says with
//! `@grantable` that it may be that wide.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::HoldRule;

/// How much a grant covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The action on this one resource.
    Resource,
    /// The action on every resource of the Google project.
    Project,
}

impl Scope {
    const ALL: [Self; 2] = [Self::Resource, Self::Project];

    /// The name in policies, in the API and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Project => "project",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An operation that policy holds, as far as grants care.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks: `issuer#subject`.
    pub principal: &'a str,
    /// The Unix user of the session.
    pub uid: u32,
    /// The action's id.
    pub action: &'a str,
    /// The resource's name.
    pub resource: &'a str,
    /// Its Google project, where the name says so.
    pub project: Option<&'a str>,
    /// The rules that hold it.
    pub rules: &'a [HoldRule],
}

/// What a grant is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", content = "name", rename_all = "snake_case")]
pub enum Over {
    /// The resource of this name.
    Resource(String),
    /// The resources of this project.
    Project(String),
}

impl Over {
    fn includes(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Resource(name) => asked.resource == name,
            Self::Project(name) => asked.project == Some(name),
        }
    }

    /// How wide it is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Resource(_) => Scope::Resource,
            Self::Project(_) => Scope::Project,
        }
    }

    /// The resource or the project.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Resource(name) | Self::Project(name) => name,
        }
    }
}

/// Why a grant cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGrantable {
    /// A rule does not say that it may be this wide.
    #[error(
        "policy {policy} does not let reviewers grant a whole {scope} (@grantable); approve the operation itself"
    )]
    Scope {
        /// The rule's policy.
        policy: String,
        /// What was asked for.
        scope: Scope,
    },
    /// The operation is not known to be in a project, or on a resource.
    #[error("this operation's {0} is not known, so it cannot be granted")]
    NoName(Scope),
    /// It would last too long, or no time at all.
    #[error("a grant lasts for at least a second and at most {}", minutes(*.0))]
    Time(Duration),
}

fn minutes(time: Duration) -> String {
    format!(
        "{} minutes (approvals.max_grant_seconds)",
        time.as_secs() / 60
    )
}

/// Lets one principal and user do one action for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    principal: String,
    uid: u32,
    action: String,
    over: Over,
    /// What it stands in for.
    rules: Vec<HoldRule>,
    until: Timestamp,
}

impl Grant {
    /// From one held operation. Who may make it is for [`Approval::check_alone`](crate::approval::Approval::check_alone) to say.
    ///
    /// # Errors
    /// When policy, or the limit `longest`, does not let it be so wide or so long.
    pub fn make(
        asked: &Asked<'_>,
        scope: Scope,
        lasting: Duration,
        longest: Duration,
        at: Timestamp,
    ) -> Result<Self, NotGrantable> {
        let unfit = |rule: &&HoldRule| !rule.grantable.contains(&scope);
        if let Some(rule) = asked.rules.iter().find(unfit) {
            let policy = rule.policy.to_string();
            return Err(NotGrantable::Scope { policy, scope });
        }
        if lasting < Duration::from_secs(1) || lasting > longest {
            return Err(NotGrantable::Time(longest));
        }
        let name = match scope {
            Scope::Resource => Some(asked.resource),
            Scope::Project => asked.project,
        };
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or(NotGrantable::NoName(scope))?.to_owned();
        Ok(Self {
            principal: asked.principal.to_owned(),
            uid: asked.uid,
            action: asked.action.to_owned(),
            over: match scope {
                Scope::Resource => Over::Resource(name),
                Scope::Project => Over::Project(name),
            },
            rules: asked.rules.to_vec(),
            until: at.checked_add(lasting).unwrap_or(at),
        })
    }

    /// Whether an operation needs nobody's answer now because of it.
    #[must_use]
    pub fn covers(&self, asked: &Asked<'_>, at: Timestamp) -> bool {
        let made_under = |rule: &HoldRule| self.rules.iter().any(|mine| mine.is(rule));
        at < self.until
            && self.principal == asked.principal
            && self.uid == asked.uid
            && self.action == asked.action
            && self.over.includes(asked)
            && !asked.rules.is_empty()
            && asked.rules.iter().all(made_under)
    }

    /// Whether policy with these rules would still let it be made.
    #[must_use]
    pub fn stands_under(&self, rules: &[HoldRule]) -> bool {
        let still_there = |mine: &HoldRule| rules.iter().any(|rule| rule.is(mine));
        self.rules.iter().all(still_there)
    }

    /// When it ends by itself.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Who may: `issuer#subject`.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The user whose sessions may.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// What they may do.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// To what.
    #[must_use]
    pub fn over(&self) -> &Over {
        &self.over
    }

    /// The rules it stands in for.
    #[must_use]
    pub fn rules(&self) -> &[HoldRule] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::PolicyRef;

    const LONGEST: Duration = Duration::from_secs(3600);

    fn rule(id: &str, grantable: &[Scope]) -> HoldRule {
        HoldRule {
            policy: PolicyRef {
                id: id.into(),
                file: "p.cedar".into(),
                line: 1,
                sha256: None,
            },
            group: "dba".into(),
            min_approvals: 1,
            hold_for: Duration::from_secs(60),
            reason: None,
            grantable: grantable.iter().copied().collect(),
        }
    }

    fn asked(rules: &[HoldRule]) -> Asked<'_> {
        Asked {
            principal: "https://issuer#a",
            uid: 1000,
            action: "sql.instances.delete",
            resource: "//sqladmin.googleapis.com/projects/p/instances/i",
            project: Some("p"),
            rules,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn make(rules: &[HoldRule], scope: Scope, seconds: u64) -> Result<Grant, NotGrantable> {
        let lasting = Duration::from_secs(seconds);
        Grant::make(&asked(rules), scope, lasting, LONGEST, at(0))
    }

    #[test]
    fn every_rule_has_to_agree_to_the_scope() {
        let wide = rule("wide", &[Scope::Resource, Scope::Project]);
        let narrow = rule("narrow", &[Scope::Resource]);
        let both = [wide.clone(), narrow];
        assert!(make(&both, Scope::Resource, 60).is_ok());
        let error = make(&both, Scope::Project, 60).expect_err("narrow");
        assert!(error.to_string().contains("narrow"), "{error}");
        assert!(make(&[wide], Scope::Project, 60).is_ok());
        assert!(make(&[rule("none", &[])], Scope::Resource, 60).is_err());
    }

    #[test]
    fn it_lasts_for_a_while_and_not_longer_than_may_be() {
        let rules = [rule("r", &[Scope::Resource])];
        assert_eq!(
            make(&rules, Scope::Resource, 3601),
            Err(NotGrantable::Time(LONGEST))
        );
        assert!(make(&rules, Scope::Resource, 0).is_err());
        let grant = make(&rules, Scope::Resource, 60).expect("may be");
        assert!(grant.covers(&asked(&rules), at(59)));
        assert!(!grant.covers(&asked(&rules), at(60)));
    }

    #[test]
    fn a_project_is_not_known_from_nothing() {
        let rules = [rule("r", &[Scope::Project])];
        let without = Asked {
            project: None,
            ..asked(&rules)
        };
        let made = Grant::make(&without, Scope::Project, LONGEST, LONGEST, at(0));
        assert_eq!(made, Err(NotGrantable::NoName(Scope::Project)));
        let grant = make(&rules, Scope::Project, 60).expect("may be");
        assert!(!grant.covers(&without, at(1)));
    }

    #[test]
    fn where_a_rule_stands_in_its_file_does_not_matter_what_it_asks_does() {
        let mut rules = [rule("r", &[Scope::Resource])];
        let grant = make(&rules, Scope::Resource, 60).expect("may be");
        rules[0].policy.line = 70;
        assert!(grant.covers(&asked(&rules), at(1)) && grant.stands_under(&rules));
        rules[0].min_approvals = 2;
        assert!(!grant.covers(&asked(&rules), at(1)) && !grant.stands_under(&rules));
        assert!(!grant.stands_under(&[]));
    }

    proptest! {
        /// Whatever differs in what a grant names: it does not cover it.
        #[test]
        fn it_covers_nothing_else(
            principal in "[ab]", uid in 0..2_u32, action in "[xy]", resource in "[rs]", project in "[pq]?",
            rules in prop::sample::subsequence(vec!["1", "2", "3"], 0..=3), wide: bool, time in 0..120_i64,
        ) {
            let scopes = [Scope::Resource, Scope::Project];
            let made_under = [rule("1", &scopes), rule("2", &scopes)];
            let first = Asked {
                principal: "a", uid: 0, action: "x", resource: "r", project: Some("p"), rules: &made_under,
            };
            let scope = if wide { Scope::Project } else { Scope::Resource };
            let grant = Grant::make(&first, scope, Duration::from_secs(60), LONGEST, at(0)).expect("may be");
            let held_by: Vec<_> = rules.iter().map(|id| rule(id, &scopes)).collect();
            let asked = Asked {
                principal: &principal, uid, action: &action, resource: &resource,
                project: Some(project.as_str()).filter(|it| !it.is_empty()), rules: &held_by,
            };
            let there = if wide { project == "p" } else { resource == "r" };
            let rules: BTreeSet<_> = rules.into_iter().collect();
            let known = !rules.is_empty() && !rules.contains("3");
            let expected = principal == "a" && uid == 0 && action == "x" && there && known && time < 60;
            prop_assert_eq!(grant.covers(&asked, at(time)), expected);
        }
    }
}
