//! The part with a database: a real PostgreSQL, and psql in one session all along.

use anyhow::{Context as _, ensure};
use holdpoint_tests::{
    host,
    postgres::{DATABASE, Postgres, Remnants},
    reviewer::{Approval, events},
    sandbox,
    world::Settings,
};

use crate::{Demo, PATIENCE, psql::Psql, story};

/// What an operator would add to the shipped policies, and to the configuration.
const POLICY: &str = r#"@id("customers-are-masked") @mask("customers")
permit(principal, action == Action::"postgres.select", resource);
"#;
const MASK: &str = r#"
[[mask]]
name = "customers"
columns = ["customers.email", "customers.card"]
"#;
const SECRETS: [&str; 2] = ["4111111111111111", "ada@example.com"];

/// The database server of the demo.
pub enum Server {
    /// A real one, of its own.
    Running(Box<Postgres>),
    /// This host has none, or no psql.
    Missing(String),
}

impl Server {
    /// Starts one, where it is installed.
    ///
    /// # Errors
    /// When it does not start, or this is CI and it is missing.
    pub fn start() -> anyhow::Result<Self> {
        let missing = if host::program_in(sandbox::PATH, "psql").is_none() {
            "needs psql: install postgresql-client"
        } else if !Postgres::is_installed() {
            "needs a PostgreSQL server: install postgresql and postgresql-contrib"
        } else {
            return Ok(Self::Running(Postgres::start().into()));
        };
        ensure!(!host::in_ci(), "{missing}");
        Ok(Self::Missing(missing.to_owned()))
    }

    /// Those of a world that knows it.
    pub fn settings(&self) -> Settings {
        match self {
            Self::Missing(_) => Settings::default(),
            Self::Running(postgres) => Settings::with_database(postgres)
                .policies(POLICY)
                .configuration(MASK),
        }
    }

    /// What it would leave behind.
    pub fn remnants(&self) -> Option<Remnants> {
        match self {
            Self::Missing(_) => None,
            Self::Running(postgres) => Some(postgres.remnants()),
        }
    }
}

impl Demo<'_> {
    /// Rows that are masked, a table dropped or not, a delete that is denied, and the record of it. Returns the id of the session.
    pub fn database(&self, postgres: &Postgres, yes: bool) -> anyhow::Result<String> {
        let mut psql = self.masked_rows(postgres)?;
        let hold = self.held_drops(postgres, &mut psql, yes)?;
        denied_delete(postgres, &mut psql)?;
        psql.leaves()?;
        self.record_of_statements(&hold)
    }

    fn masked_rows(&self, postgres: &Postgres) -> anyhow::Result<Psql> {
        story::chapter("7. A database: masked columns");
        story::tell(format!(
            "PostgreSQL at {}, by TLS and SCRAM; the daemon has the only password. This lies with the policies:",
            postgres.address
        ));
        POLICY.lines().for_each(|line| story::sees("policy", line));
        let mut psql = Psql::start(self.world)?;
        let shown = psql.asks("SELECT id, name, email, card, balance FROM customers")?;
        ensure!(shown.contains("(3 rows)"), "the rows did not come");
        for secret in SECRETS {
            ensure!(!shown.contains(secret), "{secret} was not masked");
        }
        Ok(psql)
    }

    /// One is denied, one is approved, which is returned.
    fn held_drops(
        &self,
        postgres: &Postgres,
        psql: &mut Psql,
        yes: bool,
    ) -> anyhow::Result<Approval> {
        story::chapter("8. DROP TABLE: policy holds it for a reviewer");
        psql.asks_and_waits("DROP TABLE orders")?;
        let hold = self.held("relations/orders")?;
        self.reviewer(&["approvals", "show", hold.id()])?;
        self.decides(&hold, "deny", "orders are still needed")?;
        let shown = psql.goes_on()?;
        ensure!(shown.contains("orders are still needed"), "no word of why");
        ensure!(postgres.has_relation("orders"), "orders are gone");
        psql.asks_and_waits("DROP TABLE scratch")?;
        let hold = self.held("relations/scratch")?;
        let approved = yes || story::ask("You are the reviewer. Approve it?")?;
        ensure!(
            !postgres.log().has("DROP TABLE"),
            "PostgreSQL was asked before the approval"
        );
        match approved {
            true => self.decides(&hold, "approve", "yes, that is only scratch")?,
            false => self.decides(&hold, "deny", "not today")?,
        }
        psql.goes_on()?;
        ensure!(
            approved,
            "you denied it, and nothing was dropped; say y to see the rest"
        );
        ensure!(!postgres.has_relation("scratch"), "scratch is still there");
        story::tell("PostgreSQL's own log knows of one DROP TABLE: the one that was approved.");
        ensure!(
            !postgres.log().has("DROP TABLE orders") && postgres.log().has("DROP TABLE scratch"),
            "PostgreSQL's log says otherwise"
        );
        Ok(hold)
    }

    fn held(&self, what: &str) -> anyhow::Result<Approval> {
        story::tell("... and waits.");
        self.world.find_hold(what, PATIENCE)
    }

    fn decides(&self, hold: &Approval, verb: &str, comment: &str) -> anyhow::Result<()> {
        self.reviewer(&["approvals", verb, hold.id(), "--comment", comment])
    }

    fn record_of_statements(&self, hold: &Approval) -> anyhow::Result<String> {
        story::chapter("10. The record of that session");
        let session = hold
            .session()
            .context("the approval does not tell its session")?;
        self.shows("auditor", &["sessions", "show", session])?;
        let told = serde_json::to_string(&events(self.world, session)?)?;
        for part in [
            "postgres.select",
            "postgres.drop_table",
            "postgres.delete",
            "DROP TABLE",
            "approval_decided",
        ] {
            ensure!(told.contains(part), "the record does not tell of {part}");
        }
        for secret in SECRETS {
            ensure!(!told.contains(secret), "the record holds {secret}");
        }
        Ok(session.to_owned())
    }
}

fn denied_delete(postgres: &Postgres, psql: &mut Psql) -> anyhow::Result<()> {
    story::chapter("9. DELETE without WHERE: policy denies it");
    let shown = psql.asks("DELETE FROM orders")?;
    ensure!(
        shown.contains("Holdpoint denied this: postgres.delete"),
        "it was not denied"
    );
    story::tell("Only the statement failed: connection and transaction live on.");
    let shown = psql.asks("SELECT count(*) AS orders FROM orders")?;
    ensure!(shown.contains("100"), "rows are missing");
    ensure!(
        postgres.query(DATABASE, "SELECT count(*) FROM orders") == "100",
        "rows are missing on the server"
    );
    ensure!(
        !postgres.log().has("DELETE FROM orders"),
        "it reached PostgreSQL"
    );
    Ok(())
}
