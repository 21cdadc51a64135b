//! The life of one held operation: a pure state machine.
//!
//! ```text
//! pending --answers--> approved --use_up--> used
//!    |                     '----time------> lapsed
//!    |--one denial--> denied
//!    |--time--------> expired
//!    '--withdraw----> withdrawn
//! ```
//!
//! Every transition consumes the state it starts from, and nothing leaves an end state.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::{Hold, HoldRule};

/// No hold lasts longer, whatever `@hold_for` says.
pub const LONGEST_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// A person who answers, as the host knows them. Two names with one uid are one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// The Unix user id.
    pub uid: u32,
    /// The user's name.
    pub name: String,
    /// The reviewer groups the person belongs to.
    pub groups: BTreeSet<String>,
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
}

/// Why an answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session belongs to the same user.
    #[error("this is your own session's operation; somebody else has to answer")]
    OwnOperation,
    /// The person is in none of the groups that are asked.
    #[error("only reviewers of {} may answer; you are none", list(.0))]
    NotAReviewer(BTreeSet<String>),
    /// The person has approved already, and counts once.
    #[error("you have approved it already; another person has to approve as well")]
    AlreadyApproved,
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
    /// The uid of the session's user, who may not answer.
    owner: u32,
    rules: Vec<HoldRule>,
    hold_for: Duration,
    expires_at: Timestamp,
}

impl Question {
    fn groups(&self) -> BTreeSet<String> {
        self.rules.iter().map(|rule| rule.group.clone()).collect()
    }

    fn is_satisfied_by(&self, votes: &[Vote]) -> bool {
        self.rules.iter().all(|rule| {
            let people: BTreeSet<u32> = votes
                .iter()
                .filter(|vote| vote.reviewer.groups.contains(&rule.group))
                .map(|vote| vote.reviewer.uid)
                .collect();
            people.len() >= rule.min_approvals.max(1) as usize
        })
    }
}

/// Waits for people. All its votes approve.
#[derive(Debug)]
pub struct Pending {
    question: Question,
    votes: Vec<Vote>,
}

impl Pending {
    fn check(&self, reviewer: &Reviewer, answer: Answer, at: Timestamp) -> Result<(), Refused> {
        let groups = self.question.groups();
        if at >= self.question.expires_at {
            return Err(Refused::Over(State::Expired));
        }
        if reviewer.uid == self.question.owner {
            return Err(Refused::OwnOperation);
        }
        if groups.is_disjoint(&reviewer.groups) {
            return Err(Refused::NotAReviewer(groups));
        }
        let again = self
            .votes
            .iter()
            .any(|vote| vote.reviewer.uid == reviewer.uid);
        if again && answer == Answer::Approve {
            return Err(Refused::AlreadyApproved);
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
    /// Asks people about an operation of a session of the user `owner`. It waits for the shortest `hold_for` of the
    /// rules, and an approval is good for as long again. `None` without rules: nobody is asked then.
    #[must_use]
    pub fn open(owner: u32, hold: &Hold, at: Timestamp) -> Option<Self> {
        let shortest = hold.rules.iter().map(|rule| rule.hold_for).min()?;
        let hold_for = shortest.min(LONGEST_HOLD);
        Some(Self::Pending(Pending {
            question: Question {
                owner,
                rules: hold.rules.clone(),
                hold_for,
                expires_at: later(at, hold_for),
            },
            votes: Vec::new(),
        }))
    }

    fn over(state: State, votes: Vec<Vote>, at: Timestamp) -> Self {
        Self::Over(Over {
            state,
            votes,
            decided_at: at,
            ended_at: at,
        })
    }

    /// Whether [`Self::answer`] would take this person's answer.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, reviewer: &Reviewer, answer: Answer, at: Timestamp) -> Result<(), Refused> {
        match self {
            Self::Pending(pending) => pending.check(reviewer, answer, at),
            Self::Approved(_) | Self::Over(_) => Err(Refused::Over(self.state())),
        }
    }

    /// A person answers. A refused answer changes nothing.
    pub fn answer(self, vote: Vote) -> (Self, Result<(), Refused>) {
        match (self.check(&vote.reviewer, vote.answer, vote.at), self) {
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

    /// Nobody wants an answer any more. Only what is pending can be withdrawn.
    #[must_use]
    pub fn withdraw(self, at: Timestamp) -> Self {
        match self {
            Self::Pending(pending) => Self::over(State::Withdrawn, pending.votes, at),
            other => other,
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
