//! The directory of policies.

use std::path::Path;

use anyhow::Context as _;
use holdpoint_core::policy::Source;

/// Every `*.cedar` file of a directory, in the order of their names.
///
/// # Errors
/// When the directory or one of the files cannot be read.
pub fn read_policies(dir: &Path) -> anyhow::Result<Vec<Source>> {
    read_files(dir, ".cedar")
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
            sources.push(Source {
                file: name.into_owned(),
                text,
            });
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sources)
}
