//! The PostgreSQL that the other tests believe is one: it asks for what it should, and its log leaves nothing out.

use std::process::Output;

use holdpoint_tests::postgres::{DATABASE, Postgres, Role};

fn psql(postgres: &Postgres, role: Role, changed: &[(&str, &str)], sql: &str) -> Output {
    let mut command = postgres.client("psql", role);
    command
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .envs(changed.iter().copied());
    command.output().expect("psql runs")
}

#[test]
fn each_role_logs_in_its_own_way_and_in_no_other() {
    let postgres = Postgres::start();
    let sql = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for role in Role::ALL {
        let output = psql(&postgres, role, &[], sql);
        let tls = if role == Role::Plain { "f" } else { "t" };
        let error = String::from_utf8_lossy(&output.stderr);
        let answer = String::from_utf8_lossy(&output.stdout);
        assert_eq!(answer.trim(), format!("{}|{tls}", role.name()), "{error}");
        let refused = match role {
            Role::Plain => psql(&postgres, role, &[("PGSSLMODE", "require")], sql),
            Role::Certificate => psql(&postgres, role, &[("PGSSLCERT", "/nowhere")], sql),
            _ => psql(&postgres, role, &[("PGPASSWORD", "guess")], sql),
        };
        assert!(!refused.status.success(), "{role:?}");
    }
    let off = [("PGSSLMODE", "disable")];
    assert!(!psql(&postgres, Role::App, &off, sql).status.success());
}

#[test]
fn its_log_says_what_arrived_and_only_that() {
    let postgres = Postgres::start();
    let before = postgres.log();
    let _ = postgres.query(DATABASE, "SELECT 'by the test itself'");
    let ran = psql(&postgres, Role::App, &[], "SELECT 'here\nI am'");
    assert!(ran.status.success());
    let failed = psql(&postgres, Role::App, &[], "SELECT 'bad' FROM nowhere");
    assert!(!failed.status.success());
    let log = postgres.log().since(&before);
    assert!(log.has("SELECT 'here\nI am'"), "{log:?}");
    assert!(log.has("FROM nowhere"), "{log:?}");
    assert!(!log.has("by the test itself"), "{log:?}");
    assert!(postgres.has_relation("customers") && !postgres.has_relation("nowhere"));
}
