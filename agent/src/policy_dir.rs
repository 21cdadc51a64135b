//! A directory of policy files.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use holdpoint_core::policy::Source;

/// The largest policy file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Every `*.cedar` file of a directory, in order of their names.
///
/// # Errors
/// When the directory or a file cannot be read, or there is no policy: an empty set would deny everything, which nobody
/// asks for by leaving files out.
pub fn read_policies(dir: &Path) -> anyhow::Result<Vec<Source>> {
    let entries = fs::read_dir(dir)
        .with_context(|| format!("cannot read the policies in {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", dir.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            paths.push(path);
        }
    }
    ensure!(
        !paths.is_empty(),
        "there is no *.cedar file in {}; policies belong there",
        dir.display()
    );
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Source> {
    let shown = path.display();
    let size = fs::metadata(path)
        .with_context(|| format!("cannot read {shown}"))?
        .len();
    ensure!(
        size <= MAX_FILE,
        "{shown} is larger than {MAX_FILE} bytes; no policy file is"
    );
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    Ok(Source { file, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_come_in_order_of_their_names() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        assert!(read_policies(dir.path()).is_err());
        for name in ["20-b.cedar", "10-a.cedar", "README.md", "cases.toml"] {
            fs::write(dir.path().join(name), name).expect("a file can be written");
        }
        let sources = read_policies(dir.path()).expect("there are policies");
        let files: Vec<_> = sources
            .iter()
            .map(|source| (source.file.as_str(), source.text.as_str()))
            .collect();
        assert_eq!(
            files,
            [("10-a.cedar", "10-a.cedar"), ("20-b.cedar", "20-b.cedar")]
        );
        assert!(read_policies(&dir.path().join("none")).is_err());
    }
}
