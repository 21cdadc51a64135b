//! What is told: the same facts for every destination. No headers and no bodies: what lists of approvals show, cut to a length.

use std::{collections::BTreeSet, fmt::Write as _};

use holdpoint_core::approval::Answer;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Topic, link::Links};
use crate::{
    approvals::{ApprovalId, ApprovalView, GrantView, RuleView},
    cli::approvals::screen::safe,
};

/// Characters of a text of somebody's choosing at most.
const LONGEST: usize = 300;
/// Rules and answers that are told at most.
const MOST: usize = 8;

/// What is told of.
#[derive(Debug)]
pub(super) enum About {
    Held(Box<ApprovalView>),
    Decided(Box<ApprovalView>),
    Expired(Box<ApprovalView>),
    Granted(Box<GrantView>),
    GrantOver(Box<GrantView>),
}

/// One message, ready for every kind of destination.
#[derive(Debug)]
pub(super) struct Message {
    about: About,
    groups: BTreeSet<String>,
    /// Where it may be answered from elsewhere.
    pub(super) answer_url: Option<String>,
    pub(super) host: String,
    made_at: Timestamp,
}

impl Message {
    pub(super) fn new(about: About, links: Option<&Links>) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let answer_url = match &about {
            About::Held(view) => links.map(|links| links.url(view)),
            _ => None,
        };
        let groups = match &about {
            About::Held(view) | About::Decided(view) | About::Expired(view) => view.groups.clone(),
            About::Granted(view) | About::GrantOver(view) => view
                .policies
                .iter()
                .map(|rule| rule.group.clone())
                .collect(),
        };
        Self {
            about,
            groups,
            answer_url,
            host: host.to_string_lossy().into_owned(),
            made_at: Timestamp::now(),
        }
    }

    pub(super) fn topic(&self) -> Topic {
        match self.about {
            About::Held(_) => Topic::Held,
            About::Decided(_) => Topic::Decided,
            About::Expired(_) => Topic::Expired,
            About::Granted(_) => Topic::Granted,
            About::GrantOver(_) => Topic::GrantOver,
        }
    }

    pub(super) fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// The same for the same news, also of another daemon: receivers tell repeats by it.
    pub(super) fn id(&self) -> String {
        let topic = self.topic().name();
        match &self.about {
            About::Held(view) => format!("{}-{topic}-{}", view.id, view.decisions.len()),
            About::Decided(view) | About::Expired(view) => format!("{}-{topic}", view.id),
            About::Granted(view) | About::GrantOver(view) => format!("{}-{topic}", view.id),
        }
    }

    /// Until when it is worth telling: `None` where that does not depend on what is told.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match &self.about {
            About::Held(view) => Some(view.expires_at),
            _ => None,
        }
    }

    /// The held operation that this asks for an answer to.
    pub(super) fn asks_about(&self) -> Option<&ApprovalId> {
        match &self.about {
            About::Held(view) => Some(&view.id),
            _ => None,
        }
    }

    /// Whose session it is about: that user may not answer.
    pub(super) fn requester(&self) -> u32 {
        match &self.about {
            About::Held(view) | About::Decided(view) | About::Expired(view) => view.user.uid,
            About::Granted(view) | About::GrantOver(view) => view.uid,
        }
    }

    /// One line: what has happened.
    pub(super) fn title(&self) -> String {
        match &self.about {
            About::Held(view) if view.decisions.is_empty() => {
                format!("{} waits for an answer", view.id)
            }
            About::Held(view) => format!("{} waits for another answer", view.id),
            About::Decided(view) if view.break_glass => {
                format!("{} was approved by BREAKING THE GLASS", view.id)
            }
            About::Decided(view) => format!("{} was {}", view.id, view.state),
            About::Expired(view) => format!("{} is over: {}", view.id, view.state),
            About::Granted(view) => format!("{} was granted", view.id),
            About::GrantOver(view) => format!("{} is over", view.id),
        }
    }

    /// Names and values, in the order in which people ask. The values are on one line, and safe to print; they are not safe to be
    /// taken for a markup language.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        match &self.about {
            About::Held(view) | About::Decided(view) | About::Expired(view) => self.of_hold(view),
            About::Granted(view) | About::GrantOver(view) => of_grant(view),
        }
    }

    fn of_hold(&self, view: &ApprovalView) -> Vec<(&'static str, String)> {
        let who = format!("{} (user {})", view.principal, view.user.name);
        let mut facts = vec![
            ("who", short(&who)),
            ("what", short(&view.action)),
            ("on", short(&view.resource)),
            (
                "request",
                short(format!("{} {}", view.method, view.url).trim_start()),
            ),
        ];
        facts.extend(why(&view.policies));
        for vote in view.decisions.iter().take(MOST) {
            let said = match vote.verdict {
                Answer::Approve => "approved by",
                Answer::Deny => "denied by",
            };
            let comment = vote.comment.as_deref().unwrap_or("no comment");
            facts.push((said, short(&format!("{}: {comment}", vote.reviewer))));
        }
        if let About::Held(_) = self.about {
            let groups: Vec<_> = view.groups.iter().map(String::as_str).collect();
            facts.push(("asked", short(&groups.join(", "))));
            let left = view
                .expires_at
                .duration_since(self.made_at)
                .as_secs()
                .max(0);
            let until = view.expires_at.strftime("%Y-%m-%d %H:%M:%S UTC");
            facts.push((
                "time left",
                format!("{}:{:02}, until {until}", left / 60, left % 60),
            ));
        }
        facts
    }

    /// What to type where it cannot be answered from elsewhere.
    pub(super) fn command(&self) -> Option<String> {
        let id = self.asks_about()?;
        Some(format!("holdpoint approvals show {id}"))
    }

    /// For programs: webhooks and commands (Standard Webhooks 1.0.0, "Payload structure").
    pub(super) fn json(&self) -> Value {
        let about = match &self.about {
            About::Held(view) | About::Decided(view) | About::Expired(view) => json!({
                "approval": Hold::of(view),
                "seconds_left": view.expires_at.duration_since(self.made_at).as_secs().max(0),
            }),
            About::Granted(view) | About::GrantOver(view) => json!({"grant": Granted::of(view)}),
        };
        let mut data = json!({
            "host": self.host,
            "title": self.title(),
            "answer_url": self.answer_url,
            "command": self.command(),
        });
        if let (Value::Object(data), Value::Object(about)) = (&mut data, about) {
            data.extend(about);
        }
        json!({
            "type": format!("holdpoint.{}", self.topic().name()),
            "timestamp": self.made_at,
            "data": data,
        })
    }
}

#[derive(Serialize)]
struct Hold<'a> {
    id: &'a ApprovalId,
    state: &'static str,
    session: &'a str,
    principal: String,
    user: String,
    action: String,
    resource: String,
    method: String,
    url: String,
    traits: &'a BTreeSet<String>,
    digest: String,
    groups: &'a BTreeSet<String>,
    policies: Vec<Rule>,
    answers: Vec<Value>,
    break_glass: bool,
    opened_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct Rule {
    id: String,
    place: String,
    reason: Option<String>,
    group: String,
    min_approvals: u32,
}

impl<'a> Hold<'a> {
    fn of(view: &'a ApprovalView) -> Self {
        let answers = view.decisions.iter().take(MOST).map(|vote| {
            json!({
                "reviewer": cut(&vote.reviewer), "verdict": vote.verdict, "at": vote.at, "channel": vote.channel,
                "comment": vote.comment.as_deref().map(cut), "break_glass": vote.break_glass,
            })
        });
        Self {
            id: &view.id,
            state: view.state.name(),
            session: view.session.as_str(),
            principal: cut(&view.principal),
            user: cut(&view.user.name),
            action: cut(&view.action),
            resource: cut(&view.resource),
            method: cut(&view.method),
            url: cut(&view.url),
            traits: &view.traits,
            digest: view.digest.to_string(),
            groups: &view.groups,
            policies: rules(&view.policies),
            answers: answers.collect(),
            break_glass: view.break_glass,
            opened_at: view.opened_at,
            expires_at: view.expires_at,
        }
    }
}

#[derive(Serialize)]
struct Granted<'a> {
    id: &'a str,
    approval: &'a ApprovalId,
    principal: String,
    action: String,
    over: &'a holdpoint_core::grant::Over,
    policies: Vec<Rule>,
    by: String,
    comment: Option<String>,
    until: Timestamp,
}

impl<'a> Granted<'a> {
    fn of(view: &'a GrantView) -> Self {
        Self {
            id: view.id.as_str(),
            approval: &view.approval,
            principal: cut(&view.principal),
            action: cut(&view.action),
            over: &view.over,
            policies: rules(&view.policies),
            by: cut(&view.by),
            comment: view.comment.as_deref().map(cut),
            until: view.until,
        }
    }
}

fn rules(rules: &[RuleView]) -> Vec<Rule> {
    let rule = |rule: &RuleView| Rule {
        id: cut(&rule.id),
        place: format!("{}:{}", rule.file, rule.line),
        reason: rule.reason.as_deref().map(cut),
        group: rule.group.clone(),
        min_approvals: rule.min_approvals,
    };
    rules.iter().take(MOST).map(rule).collect()
}

fn why(rules: &[RuleView]) -> impl Iterator<Item = (&'static str, String)> {
    rules.iter().take(MOST).map(|rule| {
        let mut why = format!("{} ({}:{})", rule.id, rule.file, rule.line);
        if let Some(reason) = &rule.reason {
            let _ = write!(why, ": {reason}");
        }
        ("why", short(&why))
    })
}

fn of_grant(view: &GrantView) -> Vec<(&'static str, String)> {
    let over = serde_json::to_string(&view.over).unwrap_or_default();
    let comment = view.comment.as_deref().unwrap_or("no comment");
    let mut facts = vec![
        ("who", short(&view.principal)),
        ("what", short(&view.action)),
        ("on", short(&over)),
        ("granted by", short(&format!("{}: {comment}", view.by))),
        (
            "until",
            view.until.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ),
    ];
    facts.extend(why(&view.policies));
    facts
}

/// Cut, and safe to print on one line.
fn short(text: &str) -> String {
    safe(&cut(text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
