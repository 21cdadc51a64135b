//! Somebody else at the same server.

use std::process::{Child, Stdio};

use super::{DATABASE, Postgres, Role};
use crate::patience::wait_until;

/// What it calls itself.
const NAME: &str = "bystander";

/// A client past Holdpoint, in the middle of a transaction. It ends when dropped; what it has locked, a while later.
#[derive(Debug)]
pub struct Bystander(Child);

impl Bystander {
    /// Has done this in a transaction that stays open.
    ///
    /// # Panics
    /// When it does not get as far as that.
    #[must_use]
    pub fn after(postgres: &Postgres, sql: &str) -> Self {
        let child = postgres
            .client("psql", Role::App)
            .args(["-XAtq", "-c"])
            .arg(format!("BEGIN; {sql}; SELECT pg_sleep(60)"))
            .env("PGAPPNAME", NAME)
            .stdout(Stdio::null())
            .spawn();
        let bystander = Self(child.expect("psql starts"));
        let sleeping = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{NAME}' AND wait_event = 'PgSleep'"
        );
        wait_until(sql, || postgres.query(DATABASE, &sleeping) == "1");
        bystander
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
