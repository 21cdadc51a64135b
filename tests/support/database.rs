//! A database as agents meet it: in the catalog of a daemon, and in the environment that libpq reads.

use std::time::Duration;

use crate::{
    postgres::{AGENT_PORT, Connection, DATABASE, HOST, Postgres, Role},
    sandbox::{Ran, Running, Sandbox},
    world::{Settings, World},
};

/// Configuration for tests that are not about what is asked for: it is recognised and recorded, and none of it is held.
pub const OBSERVE: &str = "[policy]\nmode = \"observe\"\n";
/// A mask set `cards`: one column of `postgres/shop.sql`, in which the numbers are [`CARDS`].
pub const MASKED_CARDS: &str =
    "[[mask]]\nname = \"cards\"\ncolumns = [\"public.customers.card\"]\n";
/// What is in the clear in `customers.card`, for the first two.
pub const CARDS: [&str; 2] = ["4111111111111111", "5500005555555559"];

/// How long a session of an agent's may take, where a test does not say.
const LIMIT: Duration = Duration::from_secs(60);

impl Settings {
    /// Those of a daemon that knows `postgres`, and is the application there.
    #[must_use]
    pub fn with_database(postgres: &Postgres) -> Self {
        Self::with_connection(postgres.connection(Role::App))
    }

    /// Those of a daemon with this entry in its catalog.
    #[must_use]
    pub fn with_connection(connection: Connection) -> Self {
        Self {
            connections: vec![connection],
            ..Self::default()
        }
    }
}

/// An agent that knows where the database is, and no password of it.
#[must_use]
pub fn agent(world: &World) -> Sandbox<'_> {
    world
        .sandbox()
        .env("PGHOST", HOST)
        .env("PGPORT", AGENT_PORT.to_string())
        .env("PGDATABASE", DATABASE)
        .env("PGUSER", "whoever")
        .env("PGCONNECT_TIMEOUT", "20")
        .limit(LIMIT)
}

/// What an agent's psql makes of these commands, one after the other. It fails after 30 s: nobody answers what is held.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn psql(world: &World, commands: &[&str]) -> Ran {
    let patient = ["timeout", "30"];
    agent(world).run(&[&patient[..], &psql_with(commands)].concat())
}

impl Sandbox<'_> {
    /// Starts psql in a session of its own.
    ///
    /// # Panics
    /// As [`Self::start`] does.
    #[must_use]
    pub fn start_psql(&self, commands: &[&str]) -> Running {
        self.start(&psql_with(commands))
    }
}

/// Rows come unaligned.
fn psql_with<'a>(commands: &[&'a str]) -> Vec<&'a str> {
    let mut command = vec!["psql", "-XAt"];
    command.extend(commands.iter().flat_map(|it| ["-c", it]));
    command
}
