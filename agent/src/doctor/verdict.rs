//! What the attempts at one attack come to. Pure.

use serde::Serialize;

use super::attack::{Attack, Goal, Outcome, Tried};

/// One attempt: what its process says, and whether what it sent was seen.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What its process says.
    pub tried: Tried,
    /// Whether what it sent has arrived.
    pub arrived: bool,
}

/// What an attack does outside: the proof that it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// It works.
    Works,
    /// It works for root, and for the user it does not.
    WorksAsRoot,
    /// This kernel lacks the feature.
    Lacking(String),
    /// It does not work, for another reason.
    Fails(String),
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It works outside and not inside.
    Contained,
    /// This kernel lacks what it needs.
    NotHere,
    /// A control that works inside, as it has to.
    Works,
    /// It works inside.
    GotOut,
    /// It works nowhere: that it does not work inside proves nothing.
    NoBaseline,
    /// A control that does not work inside: the sandbox is dead, and proves nothing.
    Broken,
    /// It left no result inside.
    Untried,
}

impl Verdict {
    /// Whether all is well.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Contained | Self::NotHere | Self::Works)
    }

    /// For the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::NotHere => "not here",
            Self::Works => "works",
            Self::GotOut => "GOT OUT",
            Self::NoBaseline => "NO BASELINE",
            Self::Broken => "BROKEN",
            Self::Untried => "UNTRIED",
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The attack's name.
    pub attack: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What it does outside.
    pub baseline: Baseline,
    /// What stopped it inside, in words.
    pub inside: String,
    /// How long it took inside, in milliseconds.
    pub ms: u64,
    /// What it comes to.
    pub verdict: Verdict,
}

/// Whether an attempt did what the attack is for.
pub fn succeeded(goal: Goal, trial: &Trial) -> bool {
    match goal {
        Goal::Arrive | Goal::Pass => trial.arrived,
        Goal::Succeed => trial.tried.outcome == Outcome::Done,
    }
}

/// From an attempt as the user, one as root where that failed, and one inside.
pub fn judge(
    attack: &Attack,
    user: Option<&Trial>,
    root: Option<&Trial>,
    inside: Option<&Trial>,
) -> Row {
    let baseline = baseline(attack.goal, user, root);
    let verdict = match inside {
        None => Verdict::Untried,
        Some(trial) => verdict(attack.goal, &baseline, succeeded(attack.goal, trial)),
    };
    Row {
        attack: attack.name,
        what: attack.what,
        inside: inside.map_or_else(
            || "it left no result".to_owned(),
            |trial| in_words(attack.goal, trial),
        ),
        ms: inside.map_or(0, |trial| trial.tried.ms),
        baseline,
        verdict,
    }
}

fn baseline(goal: Goal, user: Option<&Trial>, root: Option<&Trial>) -> Baseline {
    let works = |trial: Option<&Trial>| trial.is_some_and(|trial| succeeded(goal, trial));
    if works(user) {
        return Baseline::Works;
    }
    if works(root) {
        return Baseline::WorksAsRoot;
    }
    match root.or(user) {
        Some(trial) if is_lacking(&trial.tried.outcome) => Baseline::Lacking(in_words(goal, trial)),
        Some(trial) => Baseline::Fails(in_words(goal, trial)),
        None => Baseline::Fails("it left no result".into()),
    }
}

const fn verdict(goal: Goal, baseline: &Baseline, inside: bool) -> Verdict {
    match (goal, baseline, inside) {
        (Goal::Pass, _, true) => Verdict::Works,
        (Goal::Pass, _, false) => Verdict::Broken,
        (_, _, true) => Verdict::GotOut,
        (_, Baseline::Works | Baseline::WorksAsRoot, false) => Verdict::Contained,
        (_, Baseline::Lacking(_), false) => Verdict::NotHere,
        (_, Baseline::Fails(_), false) => Verdict::NoBaseline,
    }
}

/// What kernels answer that were built without something, and what they do to system calls of an ABI they do not have.
fn is_lacking(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed {
            errno: Some(errno), ..
        } => matches!(
            *errno,
            libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
                | libc::ENOSYS
                | libc::ENODEV
                | libc::ENOPROTOOPT
        ),
        Outcome::Killed { signal } => *signal == libc::SIGSEGV,
        _ => false,
    }
}

fn in_words(goal: Goal, trial: &Trial) -> String {
    match &trial.tried.outcome {
        Outcome::Done if trial.arrived => "it arrived".into(),
        Outcome::Done if goal == Goal::Succeed => "done".into(),
        Outcome::Done => "nothing arrived".into(),
        Outcome::Failed { why, .. } => {
            let why = why.split(" (os error").next().unwrap_or(why);
            match trial.arrived {
                true => format!("it arrived ({why})"),
                false => why.to_owned(),
            }
        }
        Outcome::Killed { signal } => nix::sys::signal::Signal::try_from(*signal).map_or_else(
            |_| format!("killed by signal {signal}"),
            |signal| format!("killed by {signal}"),
        ),
        Outcome::TimedOut => "it hung".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::attack;

    fn attack(goal: Goal) -> &'static Attack {
        attack::all()
            .find(|attack| attack.goal == goal)
            .expect("there is one of each")
    }

    fn trial(errno: Option<i32>, arrived: bool) -> Trial {
        let outcome = match errno {
            None => Outcome::Done,
            Some(errno) => Outcome::Failed {
                errno: Some(errno),
                why: std::io::Error::from_raw_os_error(errno).to_string(),
            },
        };
        let tried = Tried {
            attack: "x".into(),
            outcome,
            ms: 1,
        };
        Trial { tried, arrived }
    }

    fn of(
        goal: Goal,
        user: &Trial,
        root: Option<&Trial>,
        inside: Option<&Trial>,
    ) -> (Baseline, Verdict) {
        let row = judge(attack(goal), Some(user), root, inside);
        (row.baseline, row.verdict)
    }

    #[test]
    fn what_arrives_counts_and_not_what_the_attacker_says() {
        let (sent, lost) = (trial(None, true), trial(None, false));
        let refused_but_arrived = trial(Some(libc::EPERM), true);
        assert_eq!(
            of(Goal::Arrive, &sent, None, Some(&lost)).1,
            Verdict::Contained
        );
        for inside in [&sent, &refused_but_arrived] {
            assert_eq!(
                of(Goal::Arrive, &sent, None, Some(inside)).1,
                Verdict::GotOut
            );
        }
    }

    #[test]
    fn without_a_baseline_nothing_is_proved() {
        let refused = trial(Some(libc::EPERM), false);
        let done = trial(None, false);
        let lacking = trial(Some(libc::EPROTONOSUPPORT), false);
        for goal in [Goal::Arrive, Goal::Succeed] {
            let verdict = of(goal, &refused, Some(&refused), Some(&refused)).1;
            assert_eq!(verdict, Verdict::NoBaseline);
            let verdict = of(goal, &lacking, Some(&lacking), Some(&refused)).1;
            assert_eq!(verdict, Verdict::NotHere);
        }
        // Sent, as it says, but nobody saw it.
        assert_eq!(
            of(Goal::Arrive, &done, Some(&done), Some(&refused)).1,
            Verdict::NoBaseline
        );
        let (baseline, verdict) = of(Goal::Succeed, &refused, Some(&done), Some(&refused));
        assert_eq!(
            (baseline, verdict),
            (Baseline::WorksAsRoot, Verdict::Contained)
        );
    }

    #[test]
    fn what_gets_out_gets_out_whatever_the_baseline() {
        let (refused, done) = (trial(Some(libc::ENOSYS), false), trial(None, false));
        let verdict = of(Goal::Succeed, &refused, Some(&refused), Some(&done)).1;
        assert_eq!(verdict, Verdict::GotOut);
        assert!(!verdict.is_good());
    }

    #[test]
    fn a_dead_sandbox_is_no_safe_one() {
        let (arrived, refused) = (trial(None, true), trial(Some(libc::ECONNREFUSED), false));
        assert_eq!(
            of(Goal::Pass, &arrived, None, Some(&refused)).1,
            Verdict::Broken
        );
        assert_eq!(
            of(Goal::Pass, &arrived, None, Some(&arrived)).1,
            Verdict::Works
        );
        assert_eq!(of(Goal::Arrive, &arrived, None, None).1, Verdict::Untried);
    }
}
