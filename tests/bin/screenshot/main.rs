//! `cargo xtask screenshot`: `holdpoint review` as a reviewer sees it, drawn from a real terminal with real holds on it.

mod svg;

use std::{fs, path::PathBuf, thread::sleep, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use holdpoint_tests::{
    host,
    interrupts::Interrupts,
    postgres::{AGENT_PORT, DATABASE, HOST, Postgres},
    sandbox::Running,
    terminal::Terminal,
    world::{Settings, World},
};

const SIZE: (u16, u16) = (100, 38);

/// Draws `holdpoint review` into SVG files.
#[derive(Parser)]
struct Args {
    /// Where to: review-list.svg, review.svg and review-sql.svg.
    dir: PathBuf,
}

/// What an agent's script asks for: several things at once.
const SCRIPT: &str = r#"#!/bin/sh
api=https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project
curl -sS $api/instances >/dev/null
curl -sS -X DELETE $api/instances/prod-db &
curl -sS -X DELETE $api/instances/staging-db &
curl -sS -H 'content-type: application/json' \
  -d '{"policy":{"bindings":[{"role":"roles/owner","members":["user:mallory@example.com"]}]}}' \
  https://cloudresourcemanager.googleapis.com/v1/projects/lab-project:setIamPolicy &
wait
"#;

/// What is there already.
const PROJECT: &str = r#"{"projectId":"lab-project","lifecycleState":"ACTIVE","createTime":"2025-03-01T08:00:00Z",
    "labels":{"env":"prod","team":"shop"}}"#;
const POLICY: &str = r#"{"version":3,"etag":"BwX","bindings":[
    {"role":"roles/viewer","members":["group:shop@example.com"]},
    {"role":"roles/owner","members":["user:dora@example.com"]}]}"#;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    host::require()?;
    let interrupts = Interrupts::block()?;
    let postgres = Postgres::start();
    let world = World::with(&Settings::with_database(&postgres))?;
    interrupts.clean_up((world.remnants(), postgres.remnants()));
    let _clients = ask(&world)?;
    let (binary, config) = (world.binary(), world.config());
    let command = format!(
        "{} review --quiet --config {}",
        binary.display(),
        config.display()
    );
    let terminal = Terminal::start(&command, SIZE, &[("NO_COLOR", "")]);
    fs::create_dir_all(&args.dir)?;
    let keep = |name: &str| {
        let drawn = svg::draw(&terminal.coloured_screen()?, SIZE);
        let path = args.dir.join(name);
        fs::write(&path, drawn).with_context(|| format!("cannot write {}", path.display()))
    };

    terminal.wait_for(&["5 waiting"]);
    select(&terminal, "setIamPolicy");
    keep("review-list.svg")?;
    terminal.press(&["Enter"]);
    terminal.wait_for(&["WHY IT IS HELD", "deploy.sh"]);
    keep("review.svg")?;
    terminal.press(&["Escape"]);
    terminal.wait_for(&["5 waiting"]);
    select(&terminal, "postgres.delete");
    terminal.press(&["Enter"]);
    terminal.wait_for(&["WHY IT IS HELD", "psql -h"]);
    keep("review-sql.svg")?;
    terminal.press(&["q"]);
    Ok(())
}

/// Goes up to the first, and down to the one of this action.
fn select(terminal: &Terminal, action: &str) {
    terminal.press(&["Home"]);
    sleep(Duration::from_millis(100));
    while !selected(terminal).contains(action) {
        terminal.press(&["Down"]);
        sleep(Duration::from_millis(100));
    }
}

fn selected(terminal: &Terminal) -> String {
    let screen = terminal.screen();
    let line = screen.lines().find(|line| line.starts_with('>'));
    line.unwrap_or_default().to_owned()
}

/// Three sessions, which wait for five answers.
fn ask(world: &World) -> anyhow::Result<[Running; 3]> {
    let google = world.google.script();
    let project = "/v1/projects/lab-project";
    google.say("GET", project, 200, PROJECT);
    google.say("POST", &format!("{project}:getIamPolicy"), 200, POLICY);
    let agent = world.sandbox();
    let script = agent.file("deploy.sh", SCRIPT);
    let script = script.to_str().context("a plain path")?;
    let url = "https://compute.googleapis.com/compute/v1/projects/lab-project/zones/europe-west1-b/instances/vm-1";
    let database = world
        .sandbox()
        .env("PGDATABASE", DATABASE)
        .env("PGPORT", AGENT_PORT.to_string());
    let running = [
        agent.start(&["sh", script]),
        world.sandbox().start(&["curl", "-sS", "-X", "DELETE", url]),
        database.start(&[
            "psql",
            "-h",
            HOST,
            "-c",
            "DELETE FROM orders WHERE placed < '2026-06-01'",
        ]),
    ];
    Ok(running)
}
