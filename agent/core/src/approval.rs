//! The life of one held operation: a pure state machine.
//!
//! ```text
//! pending --answers--> approved --use_up--> used
//!    |                     '----time------> lapsed
//!    |--one denial--> denied
//!    |--time--------> expired
//!    '--withdraw----> withdrawn      (approved --withdraw--> lapsed)
//! ```
//!
//! Every transition consumes the state it starts from, and nothing leaves an end state. A restart loses nothing: what
//! is open is made anew ([`Approval::replay`]) from the question and the votes that were recorded.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::HoldRule;

/// No hold lasts longer, whatever `@hold_for` says.
pub const LONGEST_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// A person who answers, as the host and identity providers know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// The Unix user id. None: the person is known by an identity provider only.
    pub uid: Option<u32>,
    /// The user's name, else the name at the provider.
    pub name: String,
    /// The reviewer groups the person belongs to.
    pub groups: BTreeSet<String>,
    /// What else the person is called: the OIDC subject, an address. See [`known_as`].
    pub names: BTreeSet<String>,
}

impl Reviewer {
    /// Whether both are one person: the same user, or known by the same name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.uid.is_some() && self.uid == other.uid) || !self.names.is_disjoint(&other.names)
    }
}

/// Whose operation it is: the user of the session, and the names of whoever the session acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The Unix user id.
    pub uid: u32,
    /// As [`Reviewer::names`].
    pub names: BTreeSet<String>,
}

impl Requester {
    /// Whether this is the person.
    #[must_use]
    pub fn is(&self, reviewer: &Reviewer) -> bool {
        Some(self.uid) == reviewer.uid || !self.names.is_disjoint(&reviewer.names)
    }
}

/// Names for comparing people: providers do not agree on the case of an address, so none counts.
pub fn known_as<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    let names = names
        .into_iter()
        .map(|name| name.as_ref().trim().to_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It may happen.
    Approve,
    /// It may not.
    Deny,
}

/// Where a person answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// On the host, as one of its users.
    #[default]
    Host,
    /// At the answer endpoint, signed in with a browser.
    Browser,
    /// At the answer endpoint, with an ID token of the person's.
    Token,
}

/// An answer that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who gave it.
    pub reviewer: Reviewer,
    /// What it says.
    pub answer: Answer,
    /// What the person wrote.
    pub comment: Option<String>,
    /// When it was given.
    pub at: Timestamp,
    /// Whether it is to be enough alone, because the person says that there is no time for others.
    pub break_glass: bool,
    /// Where it was given.
    pub channel: Channel,
}

/// Why an answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session belongs to the same user.
    #[error("this is your own operation; somebody else has to answer")]
    OwnOperation,
    /// The person is in none of the groups that are asked.
    #[error("only reviewers of {} may answer; you are none", list(.0))]
    NotAReviewer(BTreeSet<String>),
    /// The person has approved already, and counts once.
    #[error("you have approved it already; another person has to approve as well")]
    AlreadyApproved,
    /// Only some may break the glass.
    #[error("only {} may break the glass; you may not", .0.as_ref().map_or_else(
        || "members of the group that `approvals.break_glass` in the configuration names".to_owned(),
        |group| format!("reviewers of {group}")
    ))]
    NotBreakGlass(Option<String>),
    /// Whoever breaks the glass has to say why.
    #[error("say why the glass is broken: a comment is needed")]
    NoReason,
    /// A grant is a reviewer's who could have approved the operation without others.
    #[error("only who could approve it alone may grant it: {0} have to approve this one")]
    NotAlone(String),
    /// There is nothing left to answer.
    #[error("it is {0} already; there is nothing left to answer")]
    Over(State),
}

fn list(groups: &BTreeSet<String>) -> String {
    let names: Vec<_> = groups.iter().map(String::as_str).collect();
    names.join(", ")
}

/// The states, without what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for people.
    Pending,
    /// Enough people approved; good for one operation until it lapses.
    Approved,
    /// Somebody denied it.
    Denied,
    /// Time was up before enough people had answered.
    Expired,
    /// The question is void.
    Withdrawn,
    /// One operation has used it up.
    Used,
    /// It was approved, and nobody came for it in time.
    Lapsed,
}

impl State {
    /// The name in the API and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Used => "used",
            Self::Lapsed => "lapsed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who is asked what, and for how long.
#[derive(Debug)]
struct Question {
    /// Whose operation it is, who may not answer.
    requester: Requester,
    rules: Vec<HoldRule>,
    /// The group that may approve alone.
    break_glass: Option<String>,
    hold_for: Duration,
    expires_at: Timestamp,
}

impl Question {
    fn groups(&self) -> BTreeSet<String> {
        self.rules.iter().map(|rule| rule.group.clone()).collect()
    }

    /// No two of the votes are one person's: [`Pending::check`] sees to that.
    fn is_satisfied_by(&self, votes: &[Vote]) -> bool {
        let enough = |rule: &HoldRule| {
            let members = votes
                .iter()
                .filter(|vote| vote.reviewer.groups.contains(&rule.group));
            members.count() >= rule.min_approvals.max(1) as usize
        };
        votes.iter().any(|vote| vote.break_glass) || self.rules.iter().all(enough)
    }
}

/// Waits for people. All its votes approve.
#[derive(Debug)]
pub struct Pending {
    question: Question,
    votes: Vec<Vote>,
}

impl Pending {
    fn check(&self, vote: &Vote) -> Result<(), Refused> {
        let (question, reviewer) = (&self.question, &vote.reviewer);
        if vote.at >= question.expires_at {
            return Err(Refused::Over(State::Expired));
        }
        if question.requester.is(reviewer) {
            return Err(Refused::OwnOperation);
        }
        if vote.break_glass && vote.answer == Answer::Approve {
            return self.check_glass(vote);
        }
        let groups = question.groups();
        if groups.is_disjoint(&reviewer.groups) {
            return Err(Refused::NotAReviewer(groups));
        }
        let again = self.votes.iter().any(|vote| vote.reviewer.is(reviewer));
        if again && vote.answer == Answer::Approve {
            return Err(Refused::AlreadyApproved);
        }
        Ok(())
    }

    /// Whoever has approved already, with others missing, may break the glass on top of that.
    fn check_glass(&self, vote: &Vote) -> Result<(), Refused> {
        let group = &self.question.break_glass;
        let may = |group: &String| vote.reviewer.groups.contains(group);
        if !group.as_ref().is_some_and(may) {
            return Err(Refused::NotBreakGlass(group.clone()));
        }
        let reason = vote.comment.as_deref().unwrap_or_default();
        if reason.trim().is_empty() {
            return Err(Refused::NoReason);
        }
        Ok(())
    }

    fn answer(mut self, vote: Vote) -> Approval {
        let (answer, at) = (vote.answer, vote.at);
        self.votes.push(vote);
        match answer {
            Answer::Deny => Approval::over(State::Denied, self.votes, at),
            Answer::Approve if self.question.is_satisfied_by(&self.votes) => {
                Approval::Approved(Approved {
                    lapses_at: later(at, self.question.hold_for),
                    approved_at: at,
                    votes: self.votes,
                })
            }
            Answer::Approve => Approval::Pending(self),
        }
    }
}

/// Good for one operation.
#[derive(Debug)]
pub struct Approved {
    votes: Vec<Vote>,
    approved_at: Timestamp,
    lapses_at: Timestamp,
}

/// Nothing happens to it any more.
#[derive(Debug)]
pub struct Over {
    state: State,
    votes: Vec<Vote>,
    decided_at: Timestamp,
    ended_at: Timestamp,
}

/// One held operation. It is not `Clone`: there is one state, and it moves.
#[derive(Debug)]
pub enum Approval {
    /// Waits for people.
    Pending(Pending),
    /// Good for one operation.
    Approved(Approved),
    /// Nothing happens to it any more.
    Over(Over),
}

impl Approval {
    /// Asks people about an operation. It waits for the shortest `hold_for` of the rules, and an approval is good for as
    /// long again. The reviewer group `break_glass` may approve alone. `None` without rules: nobody is asked then.
    #[must_use]
    pub fn open(
        requester: Requester,
        rules: &[HoldRule],
        break_glass: Option<&str>,
        at: Timestamp,
    ) -> Option<Self> {
        let shortest = rules.iter().map(|rule| rule.hold_for).min()?;
        let hold_for = shortest.min(LONGEST_HOLD);
        Some(Self::Pending(Pending {
            question: Question {
                requester,
                rules: rules.to_vec(),
                break_glass: break_glass.map(str::to_owned),
                hold_for,
                expires_at: later(at, hold_for),
            },
            votes: Vec::new(),
        }))
    }

    /// The same again, after a restart: these are the votes that counted, in their order. One that would not count now
    /// does not.
    #[must_use]
    pub fn replay(self, votes: impl IntoIterator<Item = Vote>) -> Self {
        let again = |approval: Self, vote| approval.answer(vote).0;
        votes.into_iter().fold(self, again)
    }

    fn over(state: State, votes: Vec<Vote>, at: Timestamp) -> Self {
        Self::Over(Over {
            state,
            votes,
            decided_at: at,
            ended_at: at,
        })
    }

    /// Whether [`Self::answer`] would take this vote.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, vote: &Vote) -> Result<(), Refused> {
        match self {
            Self::Pending(pending) => pending.check(vote),
            Self::Approved(_) | Self::Over(_) => Err(Refused::Over(self.state())),
        }
    }

    /// Whether this vote would be enough without any other: then its giver may grant more of the same.
    ///
    /// # Errors
    /// Why not.
    pub fn check_alone(&self, vote: &Vote) -> Result<(), Refused> {
        self.check(vote)?;
        match self {
            Self::Pending(Pending { question, .. })
                if question.is_satisfied_by(std::slice::from_ref(vote)) =>
            {
                Ok(())
            }
            Self::Pending(Pending { question, .. }) => {
                let people = |rule: &HoldRule| format!("{} of {}", rule.min_approvals, rule.group);
                let people: Vec<_> = question.rules.iter().map(people).collect();
                Err(Refused::NotAlone(people.join(" and ")))
            }
            Self::Approved(_) | Self::Over(_) => Err(Refused::Over(self.state())),
        }
    }

    /// A person answers. A refused answer changes nothing.
    pub fn answer(self, vote: Vote) -> (Self, Result<(), Refused>) {
        match (self.check(&vote), self) {
            (Ok(()), Self::Pending(pending)) => (pending.answer(vote), Ok(())),
            (result, unchanged) => (unchanged, result),
        }
    }

    /// Whether one operation may happen now.
    #[must_use]
    pub fn is_good(&self, at: Timestamp) -> bool {
        matches!(self, Self::Approved(approved) if at < approved.lapses_at)
    }

    /// One operation happens. The flag tells whether it may.
    #[must_use]
    pub fn use_up(self, at: Timestamp) -> (Self, bool) {
        match self {
            Self::Approved(approved) if at < approved.lapses_at => {
                (approved.end(State::Used, at), true)
            }
            other => (other.pass(at), false),
        }
    }

    /// Time passes.
    #[must_use]
    pub fn pass(self, at: Timestamp) -> Self {
        match self {
            Self::Pending(pending) if at >= pending.question.expires_at => {
                Self::over(State::Expired, pending.votes, at)
            }
            Self::Approved(approved) if at >= approved.lapses_at => approved.end(State::Lapsed, at),
            other => other,
        }
    }

    /// It is void: nobody needs an answer any more, or what was asked is no longer known. An approval that was given
    /// lapses.
    #[must_use]
    pub fn withdraw(self, at: Timestamp) -> Self {
        match self {
            Self::Pending(pending) => Self::over(State::Withdrawn, pending.votes, at),
            Self::Approved(approved) => approved.end(State::Lapsed, at),
            over @ Self::Over(_) => over,
        }
    }

    /// When [`Self::pass`] changes something.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(pending) => Some(pending.question.expires_at),
            Self::Approved(approved) => Some(approved.lapses_at),
            Self::Over(_) => None,
        }
    }

    /// When it stopped being pending.
    #[must_use]
    pub fn decided_at(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(_) => None,
            Self::Approved(approved) => Some(approved.approved_at),
            Self::Over(over) => Some(over.decided_at),
        }
    }

    /// When it reached its end state.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Pending(_) | Self::Approved(_) => None,
            Self::Over(over) => Some(over.ended_at),
        }
    }

    /// Which state it is in.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Pending(_) => State::Pending,
            Self::Approved(_) => State::Approved,
            Self::Over(over) => over.state,
        }
    }

    /// The answers that counted, in the order given.
    #[must_use]
    pub fn votes(&self) -> &[Vote] {
        match self {
            Self::Pending(pending) => &pending.votes,
            Self::Approved(approved) => &approved.votes,
            Self::Over(over) => &over.votes,
        }
    }
}

impl Approved {
    fn end(self, state: State, at: Timestamp) -> Approval {
        Approval::Over(Over {
            state,
            votes: self.votes,
            decided_at: self.approved_at,
            ended_at: at,
        })
    }
}

fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
