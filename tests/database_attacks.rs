//! Attacks on the way to a database, byte by byte, from inside of sessions: what is promised of databases holds against them.

use std::time::Duration;

use holdpoint_tests::{
    database::{self, CARDS, MASKED_CARDS},
    footprint::memory,
    postgres::{DATABASE, Postgres, Role},
    reviewer::{Approval, session_id, sessions},
    sandbox::{Ran, Running, Sandbox},
    world::{Settings, World},
};

/// Beside the shipped policies: of one table, one column is masked.
const POLICIES: &str = r#"
@id("cards-are-masked") @mask("cards")
permit(principal, action == Action::"postgres.select", resource)
when { resource.name like "*/relations/customers" };
"#;

struct Lab {
    // Dropped first.
    world: World,
    postgres: Postgres,
}

impl Lab {
    fn new() -> Self {
        Self::with(Postgres::start())
    }

    fn with(postgres: Postgres) -> Self {
        let settings = Settings::with_database(&postgres)
            .policies(POLICIES)
            .configuration(MASKED_CARDS);
        let world = settings.start();
        Self { world, postgres }
    }

    fn agent(&self) -> Sandbox<'_> {
        database::agent(&self.world).limit(Duration::from_secs(100))
    }

    /// One of `tests/clients/database_attacks.py`.
    fn attack(&self, arguments: &[&str]) -> Ran {
        self.agent().python("database_attacks.py", arguments)
    }

    /// Nothing of the table `scratch` was deleted.
    fn assert_intact(&self, ran: &Ran) {
        let rows = "SELECT count(*) FROM scratch";
        assert_eq!(self.postgres.query(DATABASE, rows), "10", "{ran}");
        assert!(!ran.says("C DELETE"), "{ran}");
    }
}

fn assert_masked(ran: &Ran) {
    for card in CARDS {
        assert!(!ran.says(card), "{ran}");
    }
}

#[test]
fn a_name_means_to_holdpoint_what_it_means_to_the_server() {
    let lab = Lab::new();
    let ran = lab.attack(&["a_long_name_is_two"]);
    assert!(ran.says("63 bytes"), "{ran}");
    lab.assert_intact(&ran);
    let ran = lab.attack(&["execute_is_bound_before_its_name_changes"]);
    assert!(ran.says("names what has changed since"), "{ran}");
    lab.assert_intact(&ran);
}

#[test]
fn nothing_follows_a_copy_before_it_is_known_to_take_data() {
    let lab = Lab::new();
    let ran = lab.attack(&["copy_eats_a_parse"]);
    assert!(ran.says("a COPY is under way"), "{ran}");
    lab.assert_intact(&ran);
    let log = lab.postgres.log();
    let lost = log.entries().iter();
    let lost: Vec<_> = lost
        .filter(|it| it.message.contains("unexpected message type"))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_client_that_goes_away_while_it_waits_leaves_nothing_behind() {
    let lab = Lab::new();
    let ran = lab.attack(&["gone_while_copying"]).succeeded();
    assert!(ran.says("gone"), "{ran}");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND query LIKE 'COPY%'";
    assert_eq!(lab.postgres.query(DATABASE, left), "0");
}

#[test]
fn portals_and_cursors_are_masked_for_what_they_are() {
    let lab = Lab::new();
    for attack in [
        "a_portal_takes_a_cursors_name",
        "a_cursor_takes_a_portals_name",
        "a_cursor_is_only_explained",
        "a_paused_portal_comes_back_as_another",
    ] {
        // What is not known any more is held: nobody is there to approve it.
        assert_masked(&lab.attack(&[attack]));
    }
}

#[test]
fn errors_quote_no_masked_value() {
    let lab = Lab::new();
    let ran = lab.attack(&["an_error_shows_a_value"]);
    assert_masked(&ran);
    assert!(ran.says("C22008 M[masked:cards]"), "{ran}");
    assert!(ran.says("column \"nme\" does not exist"), "{ran}");
}

#[test]
fn what_a_transaction_made_is_not_forgotten_for_an_older_answer() {
    let lab = Lab::new();
    let ran = lab.attack(&["an_older_answer_ends_no_younger_transaction"]);
    assert!(!ran.says("D     seen"), "{ran}");
    assert_masked(&ran);
}

#[test]
fn a_masked_column_is_masked_in_whatever_text_it_comes() {
    let lab = Lab::new();
    assert_masked(&lab.attack(&["masked_values"]));
}

#[test]
fn a_databases_own_defaults_do_not_change_how_sql_is_read() {
    let lab = Lab::new();
    let backslashes = "ALTER DATABASE shop SET standard_conforming_strings = off;
        ALTER ROLE app SET client_encoding = 'SJIS'";
    for statement in backslashes.split(';') {
        let _ = lab.postgres.query(DATABASE, statement);
    }
    let ran = lab.attack(&["a_backslash_ends_no_text"]);
    let whole = ran.stdout.matches(r"two \").count();
    assert_eq!(whole, 2, "before and after RESET ALL: {ran}");
    lab.assert_intact(&ran);
}

#[test]
fn a_database_that_folds_names_otherwise_is_refused() {
    let postgres = Postgres::start();
    let made = "CREATE DATABASE old OWNER app TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    let _ = postgres.query("postgres", made);
    let mut connection = postgres.connection(Role::App);
    connection.databases = vec!["old".to_owned()];
    let world = Settings::with_connection(connection).start();
    let lab = Lab { world, postgres };
    let agent = lab.agent().env("PGDATABASE", "old");
    let ran = agent.start_psql(&["SELECT 1"]).finish().failed();
    assert!(ran.says("server_encoding = UTF8"), "{ran}");
}

#[test]
fn what_is_prepared_and_never_used_costs_little() {
    let lab = Lab::new();
    let before = memory(&lab.world).expect("the daemon runs");
    let ran = lab.attack(&["memory_parses", "200", "no", "0"]).succeeded();
    assert!(ran.says("sent"), "{ran}");
    let ran = lab.attack(&["memory_parses", "200", "sync", "0"]);
    assert!(ran.says("as much as it may take up"), "{ran}");
    let ran = lab.attack(&["memory_function_calls", "100"]).succeeded();
    assert!(ran.says("sent"), "{ran}");
    let after = memory(&lab.world).expect("the daemon runs");
    let grown = after.saturating_sub(before);
    assert!(grown < 160 << 20, "{} KiB more than before", grown >> 10);
    lab.world.assert_daemon_works("the attack");
}

#[test]
fn what_is_only_read_does_nothing() {
    let lab = Lab::new();
    let _ = lab.postgres.query(
        DATABASE,
        "SET ROLE app;
         CREATE FUNCTION cry(integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit (what) VALUES (''cried''); RETURN true; END';
         CREATE DOMAIN loud AS integer CHECK (public.cry(VALUE));
         CREATE TABLE louder (them loud[])",
    );
    let asking = lab
        .agent()
        .start_python("database_attacks.py", &["only_parsed"]);
    let ran = deny_all(&lab, asking);
    let cried = "SELECT count(*) FROM audit WHERE what = 'cried'";
    assert_eq!(lab.postgres.query(DATABASE, cried), "0", "{ran}");
    assert!(ran.says("C42501"), "{ran}");
}

fn deny_all(lab: &Lab, asking: Running) -> Ran {
    answer_all(lab, asking, |_| false)
}

/// Answers whatever is asked of people, until there is nobody left to ask.
fn answer_all(lab: &Lab, mut asking: Running, approves: impl Fn(&Approval) -> bool) -> Ran {
    while asking.is_running() {
        for approval in lab.world.approvals().expect("the daemon answers") {
            let answered = match approves(&approval) {
                _ if approval.state() != "pending" => Ok(()),
                true => lab.world.approve(approval.id()),
                false => lab.world.deny(approval.id()),
            };
            // Who asked may be gone by now.
            drop(answered);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    asking.finish()
}

#[test]
fn what_other_policies_let_pass_is_not_sent() {
    for rule in ["@hold(\"reviewers\")\n", ""] {
        let lab = Lab::new();
        let asking = lab
            .agent()
            .start_python("database_attacks.py", &["waits_for_other_policies"]);
        let begun = std::time::Instant::now();
        while !lab.postgres.log().has("SELECT 'bound'") {
            assert!(begun.elapsed().as_secs() < 60, "it never binds");
            std::thread::sleep(Duration::from_millis(100));
        }
        let policy = format!(
            "@id(\"later\")\n{rule}forbid(principal, action == Action::\"postgres.update\", resource);\n"
        );
        lab.world.reload(&policy, "policies reloaded");
        let go = "INSERT INTO audit (what) VALUES ('go on')";
        let _ = lab.postgres.query(DATABASE, go);
        let ran = deny_all(&lab, asking);
        let changed = "SELECT count(*) FROM scratch WHERE note = 'changed'";
        assert_eq!(lab.postgres.query(DATABASE, changed), "0", "{ran}");
        assert!(ran.says("C42501"), "{rule}: {ran}");
    }
}

#[test]
fn a_session_has_its_share_of_connections_and_leaves_the_others_theirs() {
    let postgres = Postgres::start();
    let mut connection = postgres.connection(Role::App);
    connection.session_connections = 3;
    let world = Settings::with_connection(connection).start();
    let lab = Lab { world, postgres };
    let hoarding = lab
        .agent()
        .start_python("database_attacks.py", &["hoards", "5"]);
    let used = "SELECT count(*) >= 3 FROM pg_stat_activity WHERE usename = 'app' AND application_name = 'hoard'";
    let begun = std::time::Instant::now();
    while lab.postgres.query(DATABASE, used) != "t" {
        assert!(begun.elapsed().as_secs() < 30, "it has none");
        std::thread::sleep(Duration::from_millis(100));
    }
    let psql = ["psql", "-XAt", "-c", "SELECT 'another session'"];
    let _ = lab.agent().run(&psql).succeeded();
    let ran = hoarding.finish().succeeded();
    assert!(ran.says("3 let in") && ran.says("C53300"), "{ran}");
    assert!(ran.says("session_connections"), "{ran}");
    assert!(ran.says("and another"), "{ran}");
}

#[test]
fn what_people_allow_does_not_change_how_the_rest_is_read() {
    let lab = Lab::new();
    let asking = lab.agent().start_python(
        "database_attacks.py",
        &["a_pipeline_changes_how_it_is_read"],
    );
    let ran = answer_all(&lab, asking, |approval| approval.mentions("postgres.do"));
    let changed = "SELECT count(*) FROM scratch WHERE note = 'changed'";
    assert_eq!(lab.postgres.query(DATABASE, changed), "0", "{ran}");
    let log = lab.postgres.log();
    assert!(log.has("SET standard_conforming_strings = off"), "{ran}");
}

#[test]
fn a_database_at_another_port_is_refused_in_its_words() {
    let lab = Lab::new();
    let psql = ["psql", "-XAt", "-c", "SELECT 1"];
    let ran = lab.agent().env("PGPORT", "5433").run(&psql).failed();
    assert!(ran.says("it is in no [[connection]]"), "{ran}");
}

#[test]
fn nothing_but_a_startup_gets_in() {
    let lab = Lab::new();
    let ran = lab.attack(&["odd_beginnings"]).succeeded();
    assert!(!ran.says("let in"), "{ran}");
    lab.world.assert_daemon_works("the attack");
    assert!(!lab.postgres.log().has("SELECT 'slipped in'"), "{ran}");
}

#[test]
fn secrets_of_the_server_are_in_no_file_and_no_answer() {
    let lab = Lab::new();
    let ran = lab.attack(&["errors_and_settings"]);
    let password = lab.postgres.password();
    assert!(!ran.says(password), "{ran}");
    assert!(!lab.world.daemon_log().contains(password));
    let found = std::process::Command::new("grep")
        .args(["-rlaF", password])
        .arg(lab.world.dir())
        .output()
        .expect("grep is everywhere");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert!(!sessions(&lab.world).expect("it answers").is_empty());
}

#[test]
fn what_an_agent_says_is_kept_and_shown_without_its_secrets() {
    let lab = Lab::new();
    let ran = lab.attack(&["plants_secrets"]);
    for session in sessions(&lab.world).expect("it answers") {
        let id = session_id(&session);
        for arguments in [
            &["sessions", "show", id, "--bodies"][..],
            &["sessions", "export", id, "--format", "ndjson"],
            &["status"],
        ] {
            let told = lab.world.holdpoint(arguments).output().expect("it runs");
            assert!(told.status.success(), "{arguments:?}: {told:?}");
            let told = String::from_utf8_lossy(&told.stdout);
            let leaks: Vec<_> = told.lines().filter(|it| it.contains("ghp_")).collect();
            assert!(leaks.is_empty(), "{arguments:?}: {leaks:#?}\n{ran}");
        }
    }
    let found = std::process::Command::new("grep")
        .args(["-raoE", "ghp_[a-z]+"])
        .args(["state", "daemon.log"].map(|it| lab.world.dir().join(it)))
        .output()
        .expect("grep is everywhere");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
