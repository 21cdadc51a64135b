//! The directory of policies.

use std::path::Path;

use anyhow::Context as _;
use holdpoint_core::policy::{Policies, Problem, Source};

use crate::{config::Config, masking};

/// Every `*.cedar` file of a directory, in the order of their names.
///
/// # Errors
/// When the directory or one of the files cannot be read.
pub fn read_policies(dir: &Path) -> anyhow::Result<Vec<Source>> {
    read_files(dir, ".cedar")
}

/// What policies ask of the configuration that it does not have: reviewers, masks, kinds of what is found.
#[must_use]
pub fn unfit(policies: &Policies, config: &Config) -> Vec<Problem> {
    let missing = policies.reviewer_groups();
    let missing = missing.filter(|(group, _)| !config.reviewers.contains_key(*group));
    let missing = missing.map(|(group, policy)| Problem {
        file: policy.file.clone(),
        line: policy.line,
        message: format!(
            "{} asks the reviewers of {group:?}, and the configuration has no [reviewers.{group}]: nobody could ever approve",
            policy.id
        ),
    });
    missing
        .chain(masking::unknown_names(policies, &config.masks))
        .collect()
}

/// Every file of a directory whose name ends in `suffix`, in the order of their names.
///
/// # Errors
/// As [`read_policies`].
pub fn read_files(dir: &Path, suffix: &str) -> anyhow::Result<Vec<Source>> {
    let unreadable = || format!("cannot read the directory {}", dir.display());
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(suffix) && !name.starts_with('.') {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // What some editors put in front of UTF-8 is no part of it.
            let text = match text.strip_prefix('\u{feff}') {
                Some(rest) => rest.to_owned(),
                None => text,
            };
            sources.push(Source {
                file: name.into_owned(),
                text,
            });
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sources)
}
