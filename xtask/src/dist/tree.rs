//! What lies where once the package is installed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{done, file_names, stdout_of};
use crate::setup::repository;

/// From the repository, as they are.
const FILES: [(&str, &str); 13] = [
    ("systemd/holdpoint.service", "usr/lib/systemd/system"),
    (
        "systemd/holdpoint-launcher.service",
        "usr/lib/systemd/system",
    ),
    (
        "systemd/holdpoint-launcher.socket",
        "usr/lib/systemd/system",
    ),
    ("systemd/holdpoint-agents.slice", "usr/lib/systemd/system"),
    ("systemd/holdpoint.toml", "usr/share/holdpoint"),
    (
        "systemd/dropins/github-actions-runner.conf",
        "usr/share/holdpoint/dropins",
    ),
    (
        "systemd/dropins/gitlab-runner.conf",
        "usr/share/holdpoint/dropins",
    ),
    (
        "systemd/dropins/plain-unit.conf",
        "usr/share/holdpoint/dropins",
    ),
    (
        "systemd/dropins/answers.conf",
        "usr/share/holdpoint/dropins",
    ),
    ("README.md", "usr/share/doc/holdpoint"),
    ("SECURITY.md", "usr/share/doc/holdpoint"),
    ("ARCHITECTURE.md", "usr/share/doc/holdpoint"),
    ("systemd/debian/copyright", "usr/share/doc/holdpoint"),
];

/// From the repository, to be executed.
const SCRIPTS: [(&str, &str); 4] = [
    ("systemd/hooks/job-started.sh", "usr/share/holdpoint/hooks"),
    (
        "systemd/hooks/job-completed.sh",
        "usr/share/holdpoint/hooks",
    ),
    ("systemd/gce-startup.sh", "usr/share/holdpoint"),
    ("systemd/oci-runtime.sh", "usr/share/holdpoint"),
];

/// From the repository, under another name.
const RENAMED: [(&str, &str); 5] = [
    (
        "systemd/holdpoint.sysusers",
        "usr/lib/sysusers.d/holdpoint.conf",
    ),
    ("policies/README.md", "usr/share/doc/holdpoint/policies.md"),
    ("systemd/README.md", "usr/share/doc/holdpoint/runners.md"),
    ("CHANGELOG.md", "usr/share/doc/holdpoint/changelog"),
    (
        "systemd/debian/lintian-overrides",
        "usr/share/lintian/overrides/holdpoint",
    ),
];

/// Where shells look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/holdpoint"),
    ("zsh", "usr/share/zsh/vendor-completions/_holdpoint"),
    ("fish", "usr/share/fish/vendor_completions.d/holdpoint.fish"),
];

/// The policies: once for the administrator to change, once as they were.
const POLICIES: [&str; 2] = ["etc/holdpoint/policies", "usr/share/holdpoint/policies"];

/// Makes the tree below `root`.
///
/// # Errors
/// When a file cannot be read or written, or `binary` does not do its part.
pub fn lay_out(binary: &Path, root: &Path) -> anyhow::Result<()> {
    // The directory is the package's root, and the builder's umask is none of its business.
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    program(binary, root)?;
    for (source, dir) in FILES {
        put_into(source, &root.join(dir))?;
    }
    for (source, dir) in SCRIPTS {
        let script = put_into(source, &root.join(dir))?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    }
    for (source, target) in RENAMED {
        put(&repository().join(source), &root.join(target))?;
    }
    compress(&root.join("usr/share/doc/holdpoint/changelog"))?;
    for policy in file_names(&repository().join("policies"))? {
        let name = policy.file_name().context("a file")?.to_owned();
        if policy.is_file() && name != "README.md" {
            for dir in POLICIES {
                put(&policy, &root.join(dir).join(&name))?;
            }
        }
    }
    for example in examples()? {
        let relative = example.strip_prefix(repository())?;
        put(&example, &root.join("usr/share/holdpoint").join(relative))?;
    }
    for (shell, target) in COMPLETIONS {
        let script = stdout_of(Command::new(binary).args(["completions", shell]))?;
        write(&root.join(target), &script)?;
    }
    manual(binary, &root.join("usr/share/man/man1"))
}

/// What goes beside the policies as they were: there the examples' cases look for them.
fn examples() -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in file_names(&repository().join("policies/examples"))? {
        if path.is_dir() {
            files.extend(file_names(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn program(binary: &Path, root: &Path) -> anyhow::Result<()> {
    let program = root.join("usr/bin/holdpoint");
    put(binary, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    // As dh_strip(1) does it.
    done(
        Command::new("strip")
            .args(["--strip-unneeded", "--remove-section=.comment"])
            .args(["--remove-section=.note", "--enable-deterministic-archives"])
            .arg(&program),
    )
}

fn manual(binary: &Path, dir: &Path) -> anyhow::Result<()> {
    make_dirs(dir)?;
    done(Command::new(binary).arg("man-pages").arg(dir))?;
    for page in file_names(dir)? {
        fs::set_permissions(&page, Permissions::from_mode(0o644))?;
        compress(&page)?;
    }
    Ok(())
}

/// Copies a file of the repository into a directory.
fn put_into(source: &str, dir: &Path) -> anyhow::Result<PathBuf> {
    let source = repository().join(source);
    let target = dir.join(source.file_name().context("a file")?);
    put(&source, &target)?;
    Ok(target)
}

/// Copies a file, readable by all.
fn put(source: &Path, target: &Path) -> anyhow::Result<()> {
    make_dirs(target.parent().context("a file in a directory")?)?;
    fs::copy(source, target)
        .and_then(|_| fs::set_permissions(target, Permissions::from_mode(0o644)))
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))
}

/// Writes a file, readable by all.
pub fn write(target: &Path, text: &str) -> anyhow::Result<()> {
    make_dirs(target.parent().context("a file in a directory")?)?;
    fs::write(target, text)
        .and_then(|()| fs::set_permissions(target, Permissions::from_mode(0o644)))
        .with_context(|| format!("cannot write {}", target.display()))
}

/// Whatever the umask.
fn make_dirs(dir: &Path) -> anyhow::Result<()> {
    let missing: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|dir| !dir.exists())
        .map(Path::to_owned)
        .collect();
    for dir in missing.iter().rev() {
        fs::create_dir(dir)
            .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    Ok(())
}

/// Without name and time, so that the same text gives the same bytes.
pub fn compress(file: &Path) -> anyhow::Result<()> {
    done(Command::new("gzip").args(["-9", "-n"]).arg(file))
}
