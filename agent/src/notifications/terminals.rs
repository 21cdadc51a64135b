//! Notes on the terminals of reviewers who are logged in, as wall(1) writes them.
//!
//! There is no utmp to ask (Debian 13 has none): whoever is logged in owns a terminal in /dev/pts. A terminal whose group may not
//! write to it (`mesg n`) is left alone, and one that does not take the note at once is not waited for.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{GroupsOf, Order, Outcome, message::Message, tally::Tally};

const PTS: &str = "/dev/pts";
/// Terminals that one note is written to at most.
const MOST: usize = 64;
/// `S_IWGRP`: what mesg(1) sets and takes away.
const GROUP_MAY_WRITE: u32 = 0o020;
/// Major numbers of Unix98 pseudo-terminals (Documentation/admin-guide/devices.txt).
const PTS_MAJORS: std::ops::RangeInclusive<u64> = 136..=143;

/// Writes what is ordered to the terminals of members of `groups` (empty: of those that are asked).
pub(super) async fn run(
    mut orders: mpsc::Receiver<Order>,
    groups: BTreeSet<String>,
    groups_of: GroupsOf,
    tally: Arc<Tally>,
) {
    while let Some(order) = orders.recv().await {
        let Order::Tell(message) = order else {
            continue;
        };
        let (groups, groups_of) = (groups.clone(), groups_of.clone());
        let write = move || write_to_all(Path::new(PTS), &message, &groups, &groups_of);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok((taken, not_taken))) => {
                (0..taken).for_each(|_| tally.count(Outcome::Sent));
                (0..not_taken).for_each(|_| tally.count(Outcome::Failed));
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "terminals cannot be listed");
                tally.count(Outcome::Failed);
            }
            Err(error) => {
                tracing::warn!(%error, "notes for terminals panicked");
                tally.count(Outcome::Failed);
            }
        }
    }
}

/// How many took the note, and how many did not.
fn write_to_all(
    dir: &Path,
    message: &Message,
    groups: &BTreeSet<String>,
    groups_of: &GroupsOf,
) -> std::io::Result<(usize, usize)> {
    let note = note(message);
    let mut is_asked = HashMap::new();
    let mut may_read = |uid: u32| {
        *is_asked.entry(uid).or_insert_with(|| {
            let theirs = groups_of(uid);
            let asked = !theirs.is_disjoint(message.groups());
            uid != message.requester()
                && asked
                && (groups.is_empty() || !theirs.is_disjoint(groups))
        })
    };
    let (mut taken, mut not_taken) = (0, 0);
    for entry in fs::read_dir(dir)?.flatten().take(4096) {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !is_open(&metadata) || !may_read(metadata.uid()) || taken + not_taken >= MOST {
            continue;
        }
        match write(&entry.path(), metadata.uid(), note.as_bytes()) {
            Ok(()) => taken += 1,
            Err(error) => {
                tracing::debug!(terminal = %entry.path().display(), %error, "a terminal took no note");
                not_taken += 1;
            }
        }
    }
    Ok((taken, not_taken))
}

fn is_open(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device()
        && PTS_MAJORS.contains(&libc::major(metadata.rdev()).into())
        && metadata.mode() & GROUP_MAY_WRITE != 0
}

/// The terminal may have become another's since it was looked at.
fn write(path: &Path, owner: u32, note: &[u8]) -> std::io::Result<()> {
    let mut terminal = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = terminal.metadata()?;
    if !is_open(&metadata) || metadata.uid() != owner {
        return Err(std::io::Error::other("it has become another's"));
    }
    let written = terminal.write(note)?;
    if written < note.len() {
        return Err(std::io::Error::other("it took a part only"));
    }
    Ok(())
}

/// Every line is ours: the facts are safe to print, and on one line each.
fn note(message: &Message) -> String {
    let mut note = format!(
        "\r\n\u{7}Holdpoint on {}: {}\r\n",
        message.host,
        message.title()
    );
    for (name, value) in message.facts() {
        let _ = write!(note, "  {name}: {value}\r\n");
    }
    if message.asks_about().is_some() {
        note.push_str("  To answer: holdpoint review\r\n");
    }
    note
}
