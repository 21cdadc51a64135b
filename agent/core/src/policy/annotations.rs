//! What the annotations of a policy make of it.

use std::{collections::BTreeSet, time::Duration};

use cedar_policy::{Effect, Policy};
use jiff::SignedDuration;

use super::Recording;
use crate::grant::Scope;

const DEFAULT_HOLD_FOR: Duration = Duration::from_secs(15 * 60);
const LONGEST_HOLD_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_APPROVALS: u32 = 20;
const NAMES: [&str; 8] = [
    "id",
    "reason",
    "hold",
    "hold_for",
    "min_approvals",
    "grantable",
    "mask",
    "record",
];

/// `@mask` that is no set: replies that mint credentials are not masked either.
const UNMASKED: &str = "none";

/// What a `permit` says of the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mask {
    /// Nothing.
    #[default]
    Unsaid,
    /// It is passed as it comes, unless another permit says otherwise.
    Nothing,
    /// This set is masked.
    Set(String),
}

/// What a policy does when it matches.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// `permit`.
    Permit { mask: Mask, record: Recording },
    /// `forbid`.
    Forbid { reason: Option<String> },
    /// `forbid` with `@hold`.
    Hold {
        group: String,
        min_approvals: u32,
        hold_for: Duration,
        reason: Option<String>,
        grantable: BTreeSet<Scope>,
    },
}

/// Reads the annotations; every complaint begins with the annotation it is about.
pub(super) fn role(policy: &Policy) -> Result<Role, Vec<String>> {
    let mut complaints = Vec::new();
    for (name, value) in policy.annotations() {
        if let Err(complaint) = check_place(policy, name, value) {
            complaints.push(complaint);
        }
    }
    let mut keep = |complaint: String| complaints.push(complaint);
    let reason = policy.annotation("reason").map(str::to_owned);
    let role = match (policy.effect(), policy.annotation("hold")) {
        (Effect::Permit, _) => Role::Permit {
            mask: mask(policy).unwrap_or_else(|complaint| {
                keep(complaint);
                Mask::default()
            }),
            record: recording(policy).unwrap_or_else(|complaint| {
                keep(complaint);
                Recording::default()
            }),
        },
        (Effect::Forbid, None) => Role::Forbid { reason },
        (Effect::Forbid, Some(_)) => Role::Hold {
            group: name_in(policy, "hold")
                .unwrap_or_else(|complaint| {
                    keep(complaint);
                    None
                })
                .unwrap_or_default(),
            min_approvals: min_approvals(policy).unwrap_or_else(|complaint| {
                keep(complaint);
                1
            }),
            hold_for: hold_for(policy).unwrap_or_else(|complaint| {
                keep(complaint);
                DEFAULT_HOLD_FOR
            }),
            grantable: grantable(policy).unwrap_or_else(|complaint| {
                keep(complaint);
                BTreeSet::new()
            }),
            reason,
        },
    };
    if complaints.is_empty() {
        Ok(role)
    } else {
        Err(complaints)
    }
}

fn check_place(policy: &Policy, name: &str, value: &str) -> Result<(), String> {
    let forbids = policy.effect() == Effect::Forbid;
    let holds = forbids && policy.annotation("hold").is_some();
    let (fits, belongs) = match name {
        "id" => (true, ""),
        "hold" | "reason" => (forbids, "a forbid"),
        "hold_for" | "min_approvals" | "grantable" => (holds, "a forbid with @hold"),
        "mask" | "record" => (!forbids, "a permit"),
        _ => {
            let nearest = NAMES
                .iter()
                .min_by_key(|known| strsim::levenshtein(known, name))
                .expect("there are names");
            return Err(format!(
                "@{name} is not an annotation Holdpoint knows; did you mean @{nearest}?"
            ));
        }
    };
    if !fits {
        return Err(format!(
            "@{name} belongs on {belongs}; it does nothing here"
        ));
    }
    if value.trim().is_empty() {
        return Err(format!("@{name} is empty: write @{name}(\"...\")"));
    }
    Ok(())
}

/// A name of something that is defined elsewhere.
fn name_in(policy: &Policy, annotation: &str) -> Result<Option<String>, String> {
    let Some(name) = policy.annotation(annotation) else {
        return Ok(None);
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Err(format!(
            "@{annotation}({name:?}) is not a name: use up to 64 letters, digits, '-', '_' and '.'"
        ));
    }
    Ok(Some(name.to_owned()))
}

fn mask(policy: &Policy) -> Result<Mask, String> {
    Ok(match name_in(policy, "mask")? {
        None => Mask::Unsaid,
        Some(name) if name == UNMASKED => Mask::Nothing,
        Some(name) => Mask::Set(name),
    })
}

fn recording(policy: &Policy) -> Result<Recording, String> {
    match policy.annotation("record") {
        None => Ok(Recording::Summary),
        Some("headers") => Ok(Recording::Headers),
        Some("bodies") => Ok(Recording::Bodies),
        Some(other) => Err(format!(
            "@record({other:?}): write \"headers\" or \"bodies\""
        )),
    }
}

fn min_approvals(policy: &Policy) -> Result<u32, String> {
    let Some(text) = policy.annotation("min_approvals") else {
        return Ok(1);
    };
    text.parse()
        .ok()
        .filter(|count| (1..=MOST_APPROVALS).contains(count))
        .ok_or_else(|| {
            format!("@min_approvals({text:?}): write a number from 1 to {MOST_APPROVALS}")
        })
}

fn hold_for(policy: &Policy) -> Result<Duration, String> {
    let Some(text) = policy.annotation("hold_for") else {
        return Ok(DEFAULT_HOLD_FOR);
    };
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| (Duration::from_secs(1)..=LONGEST_HOLD_FOR).contains(duration))
        .ok_or_else(|| {
            format!(
                "@hold_for({text:?}): write a time up to 24h such as \"90s\", \"15m\" or \"2h\""
            )
        })
}

/// `@grantable("resource, project")`: Cedar's annotations take one string, so that scopes are separated by commas.
fn grantable(policy: &Policy) -> Result<BTreeSet<Scope>, String> {
    let text = policy.annotation("grantable").unwrap_or_default();
    let scopes = text.split(',').map(str::trim);
    scopes
        .filter(|_| !text.is_empty())
        .map(|name| {
            Scope::named(name).ok_or_else(|| {
                format!(
                    "@grantable({text:?}): {name:?} is no scope of a grant; write \"resource\", \"project\" or \"resource, project\""
                )
            })
        })
        .collect()
}
