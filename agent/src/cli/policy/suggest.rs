//! `holdpoint policy suggest`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use holdpoint_core::{
    catalog::Catalog,
    policy::{
        Policies, Source,
        suggest::{Done, suggest},
    },
};

use super::past::{Past, Which};
use crate::{cli::approvals::screen, record::OutcomeResult};

/// Write the least set of permits that covers what recorded sessions did, to edit
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Cover what was refused as well, not only what happened
    #[arg(long)]
    refused: bool,
    /// The reviewer group that is asked about what is dangerous
    #[arg(long, default_value = "reviewers")]
    group: String,
    /// The file to write; standard output if absent
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let recorded = args.which.operations().await?;
    let wanted: Vec<_> = recorded
        .iter()
        .filter(|it| args.refused || happened(it))
        .filter_map(|it| it.asked.as_ref().ok())
        .collect();
    ensure!(
        !wanted.is_empty(),
        "none of {} recorded operations happened (--refused covers those that were refused as well)",
        recorded.len()
    );
    let done: Vec<_> = wanted
        .iter()
        .map(|it| Done {
            principal: &it.principal,
            operation: &it.operation,
        })
        .collect();
    let suggestion = suggest(&done, &args.group);
    check(&suggestion.text)?;
    for left_out in &suggestion.left_out {
        eprintln!("left out: {left_out}");
    }
    let unclear = recorded.iter().filter(|it| it.asked.is_err()).count();
    if unclear > 0 {
        eprintln!("left out: {unclear} operations of which not enough was recorded");
    }
    match &args.write {
        None => screen::print(&suggestion.text),
        Some(file) => std::fs::write(file, &suggestion.text)
            .with_context(|| format!("cannot write {}", file.display())),
    }
}

/// Whoever edits it should begin with policies that load.
fn check(text: &str) -> anyhow::Result<()> {
    let source = Source {
        file: "suggested.cedar".into(),
        text: text.into(),
    };
    Policies::load(&[source], Catalog::built_in())
        .map(|_| ())
        .map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "what is suggested is not valid; please report this:\n{}",
                problems.join("\n")
            )
        })
}

fn happened(past: &Past) -> bool {
    matches!(
        past.result,
        Some(OutcomeResult::Completed | OutcomeResult::Unknown | OutcomeResult::Cut)
    )
}
