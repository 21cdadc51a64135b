//! Pins, replaced without a gap: the new one is made beside the old one and renamed over it, and only that detaches
//! the old program. Until then both run, and both have to agree.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::Ebpf;
use holdpoint_ebpf_common::names;

use super::{PinnedLink, programs::Attached};

const MAPS: [&str; 5] = [
    names::SESSIONS,
    names::SLICE,
    names::SOCKETS,
    names::FLOWS,
    names::REFUSALS,
];

/// Pins the maps, for whoever wants to look (`bpftool map dump pinned ...`); the programs keep them alive anyway.
///
/// # Errors
/// When one cannot be pinned.
pub fn maps(ebpf: &Ebpf, dir: &Path) -> anyhow::Result<()> {
    for name in MAPS {
        let map = ebpf
            .map(name)
            .with_context(|| format!("the BPF object has no map {name}"))?;
        replace(dir, name, |pin| Ok(map.pin(pin)?))?;
    }
    remove_all_but(dir, &MAPS)
}

/// Pins the links of all programs. The programs of a dead daemon are detached by it, those that have no successor last.
///
/// # Errors
/// When one cannot be pinned.
pub fn links(attached: Vec<Attached>, dir: &Path) -> anyhow::Result<Vec<PinnedLink>> {
    let mut pinned = Vec::new();
    for Attached {
        program,
        attach_type,
        link,
    } in attached
    {
        let pin = replace(dir, program, |pin| link.pin(pin))?;
        pinned.push(PinnedLink {
            program: program.to_owned(),
            attach_type: attach_type.to_owned(),
            pin,
        });
    }
    let names: Vec<&str> = pinned.iter().map(|link| link.program.as_str()).collect();
    remove_all_but(dir, &names)?;
    Ok(pinned)
}

fn replace(
    dir: &Path,
    name: &str,
    pin: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let path = dir.join(name);
    // bpffs takes no dots.
    let next = dir.join(format!("{name}_next"));
    remove_leftover(&next)
        .map_err(anyhow::Error::from)
        .and_then(|()| pin(&next))
        .and_then(|()| Ok(fs::rename(&next, &path)?))
        .with_context(|| format!("cannot pin {}", path.display()))?;
    Ok(path)
}

/// Of a daemon that died between pinning and renaming.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_all_but(dir: &Path, keep: &[&str]) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !keep.iter().any(|name| entry.file_name() == *name) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove the old pin {}", entry.path().display()))?;
        }
    }
    Ok(())
}
