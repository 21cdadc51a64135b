//! `holdpoint audit verify`: is this what happened?

use std::{
    fmt::Write as _,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use holdpoint_core::checkpoint::note::Verifier;
use serde::Serialize;

use super::Where;
use crate::{
    audit::{
        bodies::{Bodies, Checked},
        bundle::{self, Bundle, Proved},
        check::{Checker, Finding, Promise, Verified},
        evidence::{self, Source},
    },
    cli::approvals::screen::{self, Output, safe},
    shipping::shipped::{Contradiction, Flaws},
};

/// Altered, removed, moved or forged.
const BAD: u8 = 1;
/// Could not be verified.
const UNKNOWN: u8 = 2;
/// Some of it is signed by nobody yet.
const UNSIGNED_REST: u8 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Where,
    /// A proof that `holdpoint audit prove` wrote, instead of a record.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "export", "shipped"])]
    proof: Option<PathBuf>,
    /// The public key (NAME+HASH+KEY), or the file it is in. Have it from another place than the record.
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// Checkpoints that were kept elsewhere: notes, or lines of the journal. The record has to agree with each.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// How to print what was found.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What was found.
#[derive(Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Report {
    /// Nothing wrong.
    Verified {
        #[serde(flatten)]
        verified: Verified,
        bodies: Checked,
    },
    /// Something wrong, from this event on.
    Altered(Finding),
    /// A stored body is not the one that was recorded.
    BodyAltered { event: u64, problem: String },
    /// Of what was shipped, objects are missing or altered.
    Incomplete(Flaws),
    /// What was shipped contradicts itself.
    Contradicted { object: String, problem: String },
    /// A proof that holds.
    Proved(Proved),
    /// Forged, or of something else.
    Forged { problem: String },
    /// Nothing can be said.
    Unknown { problem: String },
}

pub(super) fn run(args: &Args) -> ExitCode {
    let report = report(args).unwrap_or_else(|error| Report::Unknown {
        problem: format!("{error:#}"),
    });
    let text = match args.output {
        Output::Json => screen::json(&report).unwrap_or_else(|error| format!("{error}\n")),
        Output::Table => report.described(),
    };
    if let Err(error) = screen::print(&text) {
        eprintln!("holdpoint: {error:#}");
        return ExitCode::from(UNKNOWN);
    }
    report.exit_code()
}

fn report(args: &Args) -> anyhow::Result<Report> {
    let key = evidence::key(&args.key)?;
    match &args.proof {
        Some(file) => proof(file, &key),
        None => record(args, &key),
    }
}

fn proof(file: &Path, key: &Verifier) -> anyhow::Result<Report> {
    let context = || format!("cannot read the proof {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(context)?;
    let mut limited = opened.take(bundle::LONGEST);
    limited.read_to_string(&mut text).with_context(context)?;
    let bundle: Bundle = serde_json::from_str(&text).with_context(context)?;
    Ok(match bundle.verify(key) {
        Ok(proved) => Report::Proved(proved),
        Err(error) => Report::Forged {
            problem: format!("{error:#}"),
        },
    })
}

fn record(args: &Args, key: &Verifier) -> anyhow::Result<Report> {
    let source = args.place.source()?;
    if let Source::Shipped(shipped) = &source {
        let flaws = shipped.flaws()?;
        if !flaws.is_empty() {
            return Ok(Report::Incomplete(flaws));
        }
    }
    let promises = match promises(args, &source, key) {
        Ok(promises) => promises,
        Err(error) if error.is::<evidence::Forged>() => {
            return Ok(Report::Forged {
                problem: format!("{error:#}"),
            });
        }
        Err(error) => return Err(error),
    };
    let links = source.links();
    let links = links.map(|file| evidence::vouched_links(&file, &promises));
    let mut checker = Checker::new(promises, links.transpose()?.flatten());
    let mut bodies = Bodies::of(&source)?;
    for line in source.lines()? {
        let line = match line {
            Ok(line) => line,
            Err(error) if error.is::<Contradiction>() => return Ok(contradicted(&error)),
            Err(error) => return Err(error.context(format!("after event {}", checker.size()))),
        };
        if let Err(finding) = checker.push(&line) {
            return Ok(Report::Altered(finding));
        }
        if let Err(error) = bodies.check(&line) {
            if error.is::<Contradiction>() {
                return Ok(contradicted(&error));
            }
            return Ok(Report::BodyAltered {
                event: checker.size(),
                problem: format!("{error:#}"),
            });
        }
    }
    Ok(match checker.finish() {
        Ok(verified) => Report::Verified {
            verified,
            bodies: bodies.checked(),
        },
        Err(finding) => Report::Altered(finding),
    })
}

fn contradicted(error: &anyhow::Error) -> Report {
    let found = error.downcast_ref::<Contradiction>();
    Report::Contradicted {
        object: found.map(|it| it.object.clone()).unwrap_or_default(),
        problem: found.map(|it| it.why.clone()).unwrap_or_default(),
    }
}

/// All checkpoints, those beside the record and those from elsewhere.
fn promises(args: &Args, source: &Source, key: &Verifier) -> anyhow::Result<Vec<Promise>> {
    let beside = source.checkpoints();
    let mut promises = Vec::new();
    let mut others = 0;
    if beside.exists() {
        let found = evidence::checkpoints(&beside, key)?;
        others = found.others;
        promises.extend(found.promises(false));
    }
    for file in &args.checkpoint {
        let found = evidence::checkpoints(file, key)?;
        ensure!(
            !found.checkpoints.is_empty(),
            "{} has no checkpoint that is signed with the key {key}",
            file.display()
        );
        promises.extend(found.promises(true));
    }
    ensure!(
        !promises.is_empty(),
        "nothing is signed with the key {key}: {} has {others} checkpoints, of other keys; give others with --checkpoint, from the \
         journal for example",
        beside.display()
    );
    Ok(promises)
}

impl Report {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Verified { verified, .. } if verified.signed < verified.events => {
                ExitCode::from(UNSIGNED_REST)
            }
            Self::Verified { .. } | Self::Proved(_) => ExitCode::SUCCESS,
            Self::Altered(_)
            | Self::BodyAltered { .. }
            | Self::Incomplete(_)
            | Self::Contradicted { .. }
            | Self::Forged { .. } => ExitCode::from(BAD),
            Self::Unknown { .. } => ExitCode::from(UNKNOWN),
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Verified { verified, bodies } => whole(verified, bodies),
            Self::Altered(finding) => {
                format!("NOT WHAT WAS RECORDED. The first that is wrong is {finding}\n")
            }
            Self::Incomplete(flaws) => format!("NOT WHAT WAS RECORDED.\n{}", safe_lines(flaws)),
            Self::Contradicted { object, problem } => {
                format!(
                    "NOT WHAT WAS RECORDED. {}: {}\n",
                    safe(object),
                    safe(problem)
                )
            }
            Self::BodyAltered { event, problem } => {
                format!(
                    "NOT WHAT WAS RECORDED. The body of event {event}: {}\n",
                    safe(problem)
                )
            }
            Self::Proved(Proved::Inclusion {
                seq,
                event,
                of,
                request,
            }) => {
                let mut text = format!(
                    "Proved: event {seq} was in the record when {of} events were signed for.\n{}\n",
                    safe(event)
                );
                if let Some(request) = request {
                    let _ = writeln!(
                        text,
                        "This is what people were asked about:\n{}",
                        safe(request)
                    );
                }
                text
            }
            Self::Proved(Proved::Consistency { old, new }) => format!(
                "Proved: the record only grew from {old} to {new} events; none of the first {old} was changed in between.\n"
            ),
            Self::Forged { problem } => format!("NOT PROVED. {}\n", safe(problem)),
            Self::Unknown { problem } => format!("It could not be verified: {}\n", safe(problem)),
        }
    }
}

fn safe_lines(flaws: &Flaws) -> String {
    let text = flaws.to_string();
    text.lines()
        .fold(String::new(), |all, line| all + &safe(line) + "\n")
}

fn whole(verified: &Verified, bodies: &Checked) -> String {
    let Verified {
        events,
        signed,
        checkpoints,
        purged,
        root,
    } = verified;
    let mut text = format!(
        "Verified: {events} events, none altered, removed or moved; {checkpoints} checkpoints agree, the last one with the first {signed}.\n"
    );
    if signed < events {
        let _ = writeln!(
            text,
            "The {} events after it follow from those before, and are signed by nobody yet.",
            events - signed
        );
    }
    for (first, last) in purged {
        let _ = writeln!(
            text,
            "Retention has removed events {first} to {last}; their hashes are as they were."
        );
    }
    if bodies.checked + bodies.gone + bodies.cut > 0 {
        let _ = writeln!(
            text,
            "Bodies: {} are as they were, {} are no longer there, {} were not kept whole.",
            bodies.checked, bodies.gone, bodies.cut
        );
    }
    if let Some(root) = root {
        let _ = writeln!(text, "Root hash of all of them: {root}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_json_with_its_result() {
        let report = Report::Unknown {
            problem: "no".into(),
        };
        let value = serde_json::to_value(&report).expect("JSON");
        assert_eq!(value, json!({"result": "unknown", "problem": "no"}));
    }
}
