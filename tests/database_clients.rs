//! The clients people have work through Holdpoint as they do without: the same scripts run against the server itself,
//! which proves the scripts, and inside a sandbox, which proves Holdpoint.

use std::{path::Path, process::Command, time::Duration};

use holdpoint_tests::{
    database::{self, OBSERVE},
    files::repository,
    node,
    postgres::{Postgres, Role},
    python,
    sandbox::Sandbox,
    world::{Settings, World},
};

const PYTHON_PACKAGES: [&str; 2] = ["psycopg[binary]==3.3.9", "pg8000==1.31.6"];
const NODE_PACKAGES: [&str; 1] = ["pg@8.23.1"];
const CLIENT_LIMIT: Duration = Duration::from_secs(300);

/// One way to a database.
trait Way {
    /// Runs a command as a client there, and fails unless it succeeds.
    fn run(&self, command: &[&str]) -> String;
    /// Where the client's files and libraries are.
    fn place(&self) -> &Path;
}

struct Direct<'p> {
    postgres: &'p Postgres,
    role: Role,
    place: tempfile::TempDir,
}

impl<'p> Direct<'p> {
    fn to(postgres: &'p Postgres, role: Role) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        Self {
            postgres,
            role,
            place,
        }
    }
}

impl Way for Direct<'_> {
    fn run(&self, command: &[&str]) -> String {
        let output = Command::new(command[0])
            .args(&command[1..])
            .envs(self.postgres.environment(self.role))
            .env("PYTHONPATH", self.place().join("python"))
            .env("NODE_PATH", self.place().join("node_modules"))
            .current_dir(self.place())
            .output()
            .expect("the client starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{command:?}: {}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn place(&self) -> &Path {
        self.place.path()
    }
}

fn world(postgres: &Postgres) -> World {
    Settings::with_database(postgres)
        .configuration(OBSERVE)
        .start()
}

struct Held<'w> {
    world: &'w World,
    agent: Sandbox<'w>,
}

impl<'w> Held<'w> {
    fn by(world: &'w World, tls: &'static str) -> Self {
        let agent = database::agent(world).limit(CLIENT_LIMIT);
        let home = agent.home().to_owned();
        let mut agent = agent
            .env("PGSSLMODE", tls)
            .env("PYTHONPATH", home.join("python"))
            .env("NODE_PATH", home.join("node_modules"));
        if tls == "verify-full" {
            agent = agent.env("PGSSLROOTCERT", "/etc/ssl/certs/ca-certificates.crt");
        }
        Self { world, agent }
    }
}

impl Way for Held<'_> {
    fn run(&self, command: &[&str]) -> String {
        let ran = self.agent.run(command);
        assert!(ran.status.success(), "{ran}\n{}", self.world.daemon_log());
        ran.stdout
    }

    fn place(&self) -> &Path {
        self.agent.home()
    }
}

/// Runs a script of `tests/clients/postgres` there.
fn script(way: &dyn Way, interpreter: &str, name: &str) {
    let source = repository().join("tests/clients/postgres").join(name);
    let copy = way.place().join(name);
    std::fs::copy(&source, &copy).expect("it can be copied");
    let said = way.run(&[interpreter, copy.to_str().expect("a plain path")]);
    assert!(said.trim_end().ends_with(": well"), "{name}: {said}");
}

fn python_clients(way: &dyn Way) {
    python::packages("postgres-clients", &PYTHON_PACKAGES, way.place()).expect("pip");
    script(way, python::PYTHON, "psycopg_client.py");
    script(way, python::PYTHON, "pg8000_client.py");
}

fn node_client(way: &dyn Way) {
    node::packages("node-postgres", &NODE_PACKAGES, way.place()).expect("npm");
    script(way, "node", "node_client.js");
}

/// sqlx, built by itself: the features it wants of others would have the whole workspace built anew.
fn sqlx_client(way: &dyn Way) {
    let root = repository();
    let target = root.join("target/test-cache/sqlx");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(root.join("tests/clients/sqlx/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo");
    assert!(built.success(), "sqlx is not built");
    let program = way.place().join("sqlx-client");
    std::fs::copy(target.join("debug/sqlx-client"), &program).expect("it can be copied");
    let said = way.run(&[program.to_str().expect("a plain path")]);
    assert!(said.trim_end().ends_with(": well"), "{said}");
}

/// Its tables, made past Holdpoint.
fn fill_pgbench(postgres: &Postgres) {
    Direct::to(postgres, Role::App).run(&["pgbench", "-i", "-q", "-s", "1"]);
}

#[test]
fn without_holdpoint_every_script_succeeds() {
    let postgres = Postgres::start();
    let direct = Direct::to(&postgres, Role::App);
    script(&direct, "sh", "psql.sh");
    script(&direct, "sh", "dump.sh");
    script(&direct, "sh", "migrate.sh");
    fill_pgbench(&postgres);
    script(&direct, "sh", "pgbench.sh");
    python_clients(&direct);
    node_client(&direct);
    let _ = postgres.query("postgres", "GRANT app TO app_plain");
    sqlx_client(&Direct::to(&postgres, Role::Plain));
}

#[test]
fn psql_works_without_tls_with_it_and_with_everything_verified() {
    let postgres = Postgres::start();
    for tls in ["disable", "require", "verify-full"] {
        script(&Held::by(&world(&postgres), tls), "sh", "psql.sh");
    }
}

#[test]
fn pgbench_works_in_all_three_protocols() {
    let postgres = Postgres::start();
    fill_pgbench(&postgres);
    script(&Held::by(&world(&postgres), "require"), "sh", "pgbench.sh");
}

#[test]
fn psycopg_and_pg8000_work() {
    let postgres = Postgres::start();
    python_clients(&Held::by(&world(&postgres), "verify-full"));
}

#[test]
fn sqlx_works() {
    let postgres = Postgres::start();
    sqlx_client(&Held::by(&world(&postgres), "disable"));
}

#[test]
fn node_postgres_works() {
    let postgres = Postgres::start();
    node_client(&Held::by(&world(&postgres), "verify-full"));
}

/// Under the policies that ship: what is held fails here, since nobody answers in time.
#[test]
fn migrations_are_not_held() {
    let postgres = Postgres::start();
    let settings = Settings {
        connections: vec![postgres.connection(Role::App)],
        ..Settings::default()
    };
    let world = World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"));
    script(&Held::by(&world, "require"), "sh", "migrate.sh");
    let held = world.approvals().expect("the daemon answers");
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn pg_dump_and_pg_restore_work() {
    let postgres = Postgres::start();
    script(&Held::by(&world(&postgres), "require"), "sh", "dump.sh");
}
