//! What the demo leaves behind for whoever wants to check it.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use holdpoint_tests::world::World;
use serde_json::Value;

/// Writes upstream.jsonl, approvals.json, links.json, session.json and, of the session that asked a database, database.json.
pub fn leave(
    world: &World,
    session: &str,
    in_database: Option<&str>,
    dir: &Path,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::copy(world.google.journal().path(), dir.join("upstream.jsonl"))?;
    write(&dir.join("approvals.json"), &approvals(world)?)?;
    write(&dir.join("links.json"), &links(world)?)?;
    let show = |session: &str| world.holdpoint_json(&["sessions", "show", session]);
    write(&dir.join("session.json"), &show(session)?)?;
    match in_database {
        Some(session) => write(&dir.join("database.json"), &show(session)?),
        None => Ok(()),
    }
}

/// With times in milliseconds since the epoch, as in upstream.jsonl.
fn approvals(world: &World) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    for mut approval in world.approvals()? {
        approval.0["decided_at"] = approval.decided_at().into();
        all.push(approval.0);
    }
    Ok(all.into())
}

/// The pinned BPF links, all of which are there.
pub fn links(world: &World) -> anyhow::Result<Value> {
    let links = world.holdpoint_json(&["status"])?["links"].take();
    let list = links
        .as_array()
        .context("`holdpoint status` told no links")?;
    ensure!(!list.is_empty(), "no BPF link is pinned");
    for link in list {
        let pin = link["pin"].as_str().context("a link without its pin")?;
        ensure!(Path::new(pin).exists(), "{pin} is not there");
    }
    Ok(links)
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
