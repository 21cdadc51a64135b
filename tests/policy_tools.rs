//! What was recorded can be explained, judged by other policies, and made into policies of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use holdpoint_tests::{
    database::psql,
    files::repository,
    postgres::Postgres,
    reviewer::{events, only_session},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::Value;

const PROD_DB: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";

/// A world in which a session has listed the instances, deleted one with an approval, and asked for what does not exist.
struct Past {
    world: World,
    session: String,
}

impl Past {
    fn new() -> Self {
        let world = World::start();
        let script = format!(
            "curl -sS --fail {INSTANCES_URL} && curl -sS --fail -X DELETE {PROD_DB} && \
             ! curl -sS --fail -X POST {PROD_DB}/obliterate"
        );
        let running = world.sandbox().start(&["sh", "-c", &script]);
        let hold = world.wait_for_hold("sql.instances.delete");
        world.approve(hold.id()).expect("root may approve");
        let _ = running.finish().succeeded();
        let session = only_session(&world);
        Self { world, session }
    }

    /// A world in which a session has read customers and changed one row.
    fn in_database(postgres: &Postgres) -> Self {
        let world = Settings::with_database(postgres).start();
        let asked = [
            "SELECT id FROM customers",
            "UPDATE scratch SET note = 'x' WHERE id = 1",
        ];
        let _ = psql(&world, &asked).succeeded();
        let session = only_session(&world);
        Self { world, session }
    }

    fn policy(&self, args: &[&str]) -> Output {
        let mut command = self.world.holdpoint(&[&["policy"], args].concat());
        command.output().expect("it runs")
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.policy(&[args, &["--output", "json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn operation(&self, action: &str) -> String {
        let events = events(&self.world, &self.session).expect("events");
        let intent = events
            .iter()
            .find(|it| it["event"] == "intent" && it["operation"]["action"] == action);
        let id = &intent.expect("it was recorded")["operation"]["id"];
        id.as_str().expect("a name").to_owned()
    }

    /// The policy that allows just what was done, which is valid by itself: its text, and the directory that has nothing else.
    fn suggests(&self) -> (String, PathBuf) {
        let dir = self.world.dir().join("suggested");
        fs::create_dir(&dir).expect("a directory");
        let file = dir.join("suggested.cedar");
        let output = self.policy(&[
            "suggest",
            "--session",
            &self.session,
            "--write",
            text(&file),
        ]);
        assert!(output.status.success(), "{output:?}");
        let suggested = fs::read_to_string(&file).expect("it was written");
        let mut check = Command::new(self.world.binary());
        check.args(["policy", "check"]).arg(&dir);
        assert!(check.status().expect("it runs").success(), "{suggested}");
        (suggested, dir)
    }

    /// The starter set and one more file.
    fn policies(&self, more: &str) -> PathBuf {
        let dir = self.world.dir().join("other-policies");
        fs::create_dir_all(&dir).expect("a directory");
        for entry in fs::read_dir(repository().join("policies"))
            .expect("policies")
            .flatten()
        {
            if entry.path().is_file() {
                fs::copy(entry.path(), dir.join(entry.file_name())).expect("a copy");
            }
        }
        fs::write(dir.join("90-more.cedar"), more).expect("a file");
        dir
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("ours")
}

fn groups(report: &Value, what: &str) -> Vec<(String, String, u64)> {
    let groups = report[what].as_array().expect("a list").iter();
    groups
        .map(|it| {
            let word = |name: &str| it[name].as_str().unwrap_or("unknown").to_owned();
            (
                word("action"),
                format!("{} -> {}", word("was"), word("becomes")),
                it["count"].as_u64().expect("a number"),
            )
        })
        .collect()
}

#[test]
fn other_policies_are_tried_on_what_was_recorded() {
    let past = Past::new();
    let same = past.policies("");
    let backtest = ["backtest", text(&same)];
    let report = past.json(&backtest);
    assert_eq!(groups(&report, "changed"), [], "{report:#}");
    assert_eq!(groups(&report, "unknown"), [], "{report:#}");
    assert_eq!(past.policy(&backtest).status.code(), Some(0));

    let other = past.policies(
        r#"@id("no-lists") forbid(principal, action == Action::"sql.instances.list", resource);
           @id("unknown-methods") permit(principal, action == Action::"google.unknown", resource);"#,
    );
    let report = past.json(&["backtest", text(&other), "--session", &past.session]);
    let expected = [
        ("google.unknown", "deny -> allow"),
        ("sql.instances.list", "allow -> deny"),
    ];
    let expected = expected.map(|(action, change)| (action.to_owned(), change.to_owned(), 1));
    assert_eq!(groups(&report, "changed"), expected, "{report:#}");
    let example = &report["changed"][1]["examples"][0];
    assert_eq!(example["session"], past.session.as_str());
    assert_eq!(
        example["operation"],
        past.operation("sql.instances.list").as_str()
    );
    for (fail_on, code) in [
        ("change", 3),
        ("looser", 3),
        ("stricter", 3),
        ("unknown", 0),
        ("never", 0),
    ] {
        let output = past.policy(&["backtest", text(&other), "--fail-on", fail_on]);
        assert_eq!(output.status.code(), Some(code), "{fail_on}");
    }

    // A field that another method would have, and one that may have been there.
    let asks = past
        .policies(r#"forbid(principal, action, resource) when { context.query.hasTag("force") };"#);
    let report = past.json(&["backtest", text(&asks)]);
    assert_eq!(groups(&report, "changed"), [], "{report:#}");
    let _ = past.world.stop_daemon();
    let output = past.policy(&backtest);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot reach the daemon"));
}

#[test]
fn a_recorded_decision_is_explained() {
    let past = Past::new();
    let operation = past.operation("sql.instances.delete");
    let policies = repository().join("policies");
    let explained = past.policy(&["explain", &operation, "--policies", text(&policies)]);
    let shown = String::from_utf8_lossy(&explained.stdout);
    for part in [
        "decision   hold",
        "hold-deletes (30-holds.cedar:",
        "deletes (20-writes.cedar:",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let all = past.json(&["explain", &past.session]);
    let actions = all.as_array().expect("a list").iter();
    let actions: Vec<_> = actions.filter_map(|it| it["action"].as_str()).collect();
    assert!(actions.contains(&"google.unknown"), "{actions:?}");
    let output = past.policy(&["explain", "op-0000000000"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no session that you may see"));
}

#[test]
fn what_was_done_makes_a_policy_that_allows_just_that() {
    let past = Past::new();
    let (suggested, dir) = past.suggests();
    assert!(suggested.contains("sql.instances.list"), "{suggested}");
    let report = past.json(&["backtest", text(&dir)]);
    assert_eq!(groups(&report, "changed"), [], "{report:#}\n{suggested}");
    // What was refused is only covered when that is asked for, and then held.
    assert!(
        !suggested.contains("action == Action::\"google.unknown\""),
        "{suggested}"
    );
    let refused = past.policy(&["suggest", "--refused"]);
    let refused = String::from_utf8_lossy(&refused.stdout);
    assert!(refused.contains("suggested-hold-unknown"), "{refused}");
}

#[test]
fn statements_are_explained_judged_anew_and_made_into_a_policy() {
    let postgres = Postgres::start();
    let past = Past::in_database(&postgres);
    let operation = past.operation("postgres.update");
    let explained = past.policy(&["explain", &operation]);
    let explained = String::from_utf8_lossy(&explained.stdout);
    for part in [
        "decision   allow",
        "writes (20-writes.cedar:",
        "/schemas/public/relations/scratch",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let written_down = past.json(&["explain", "--sql", "TRUNCATE orders"]);
    assert_eq!(
        written_down[0]["action"], "postgres.truncate",
        "{written_down:#}"
    );
    let verdicts = written_down[0].to_string();
    assert!(verdicts.contains("hold-deletes"), "{written_down:#}");

    let other = past.policies(
        r#"@id("scratch-stays") forbid(principal, action in Action::"postgres.*", resource)
           when { resource.name like "*/relations/scratch" };"#,
    );
    let report = past.json(&["backtest", text(&other)]);
    let expected = [("postgres.update".to_owned(), "allow -> deny".to_owned(), 1)];
    assert_eq!(groups(&report, "changed"), expected, "{report:#}");

    let (suggested, dir) = past.suggests();
    for part in [
        "/relations/customers\"",
        "/relations/scratch\"",
        "suggested-hold-opaque-sql",
    ] {
        assert!(suggested.contains(part), "{part}: {suggested}");
    }
    let report = past.json(&["backtest", text(&dir)]);
    assert_eq!(groups(&report, "changed"), [], "{report:#}\n{suggested}");
}
