//! Cloud SQL connectors, as they are published, inside sessions: what they need works, and they get hold of nothing that is worth anything elsewhere.

use std::time::Duration;

use holdpoint_tests::{
    cloud_sql::{CloudSql, INSTANCE, INSTANCE_ADDRESS, InstanceOptions, connection_name, path_of},
    database::{CARDS, MASKED_CARDS},
    files::repository,
    node,
    postgres::{DATABASE, Postgres, Role},
    python,
    reviewer::{export, session_id, sessions},
    sandbox::{Ran, Sandbox},
    world::{Settings, World},
};
use serde_json::Value;

const PYTHON_PACKAGES: [&str; 4] = [
    "cloud-sql-python-connector==1.23.0",
    "pg8000==1.31.6",
    "asyncpg==0.32.0",
    "psycopg[binary]==3.3.9",
];
const NODE_PACKAGES: [&str; 2] = ["@google-cloud/cloud-sql-connector@1.10.0", "pg@8.23.1"];
const CLIENT_LIMIT: Duration = Duration::from_secs(120);
/// What the shipped rules leave to an operator: who is masked what.
const POLICIES: &str = r#"
@id("cards-are-masked") @mask("cards") @record("bodies")
permit(principal, action == Action::"postgres.select", resource);
"#;

/// A database, the instance of Cloud SQL that it is, and a daemon that knows of it.
struct Place {
    world: World,
    instance: CloudSql,
    postgres: Postgres,
}

impl Place {
    fn new(role: Role) -> Self {
        Self::with(role, InstanceOptions::default())
    }

    fn with(role: Role, options: InstanceOptions) -> Self {
        let postgres = Postgres::start();
        let instance = CloudSql::before(&postgres, options);
        let connection = postgres.connection_by_connector(role, &connection_name());
        let settings = Settings {
            addresses: vec![(INSTANCE_ADDRESS.to_owned(), instance.door)],
            ..Settings::with_connection(connection)
        };
        let settings = settings.policies(POLICIES).configuration(MASKED_CARDS);
        let world = settings.start();
        instance.open_in(&world);
        Self {
            world,
            instance,
            postgres,
        }
    }

    /// How often Google was asked for a certificate.
    fn certificates_asked_for(&self) -> usize {
        self.world.count("POST", &path_of(":generateEphemeralCert"))
    }

    fn exports(&self) -> String {
        let sessions = sessions(&self.world).expect("the daemon answers");
        let exports = sessions
            .iter()
            .map(|it| export(&self.world, session_id(it)));
        exports.collect()
    }
}

/// A connector in a session.
struct Connector<'w> {
    world: &'w World,
    agent: Sandbox<'w>,
    command: Vec<String>,
}

impl<'w> Connector<'w> {
    fn python(world: &'w World, driver: &str, user: &str, options: &[&str]) -> Self {
        let agent = world.sandbox().limit(CLIENT_LIMIT);
        let packages = python::packages("cloud-sql-connector", &PYTHON_PACKAGES, agent.home());
        let agent = agent.env("PYTHONPATH", packages.expect("pip"));
        let instance = connection_name();
        let mut command = vec![
            python::PYTHON.to_owned(),
            client(&agent, "connect.py"),
            instance,
        ];
        command.extend([driver, user].map(str::to_owned));
        command.extend(options.iter().map(|&it| it.to_owned()));
        Self {
            world,
            agent,
            command,
        }
    }

    fn node(world: &'w World, user: &str, authentication: &str) -> Self {
        let agent = world.sandbox().limit(CLIENT_LIMIT);
        let packages = node::packages("node-cloud-sql-connector", &NODE_PACKAGES, agent.home());
        let agent = agent.env("NODE_PATH", packages.expect("npm"));
        let script = client(&agent, "connect.js");
        let mut command = vec!["node".to_owned(), script, connection_name()];
        command.extend([user, authentication].map(str::to_owned));
        Self {
            world,
            agent,
            command,
        }
    }

    fn to(mut self, instance: &str) -> Self {
        self.command[2] = instance.to_owned();
        self
    }

    fn command<'a>(&'a self, sql: &[&'a str]) -> Vec<&'a str> {
        let command = self.command.iter().map(String::as_str);
        command.chain(sql.iter().copied()).collect()
    }

    /// What comes of each statement.
    fn run(&self, sql: &[&str]) -> Vec<Value> {
        self.told(&self.agent.run(&self.command(sql)))
    }

    fn told(&self, ran: &Ran) -> Vec<Value> {
        assert!(ran.status.success(), "{ran}\n{}", self.world.daemon_log());
        let lines = ran.stdout.lines();
        let told: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{ran}")))
            .collect();
        assert!(!told.is_empty(), "{ran}\n{}", self.world.daemon_log());
        told
    }
}

fn client(agent: &Sandbox<'_>, name: &str) -> String {
    let source = repository().join("tests/clients/connectors").join(name);
    let text = std::fs::read(source).expect("it is there");
    let copy = agent.file(name, text).into_os_string();
    copy.into_string().expect("a plain path")
}

/// One step of a connector's, in a session of its own.
fn by_hand(agent: &Sandbox<'_>, steps: &str) -> (Value, Ran) {
    let script = client(agent, "by_hand.py");
    let steps = steps.replace("by_hand", &format!("{} {script}", python::PYTHON));
    let ran = agent.run(&["sh", "-c", &steps]);
    let last = ran.stdout.lines().last().unwrap_or_default();
    (serde_json::from_str(last).unwrap_or_default(), ran)
}

fn works(place: &Place, connector: &Connector<'_>, user: &str) {
    let name = "SELECT name FROM customers ORDER BY id LIMIT 1";
    let statements = [
        name,
        "SELECT card FROM customers WHERE id = 1",
        "DELETE FROM scratch",
        "UPDATE scratch SET note = 'seen' WHERE id = 1",
        "SELECT current_user",
    ];
    let told = connector.run(&statements);
    let log = place.world.daemon_log();
    assert_eq!(told.len(), statements.len(), "{told:?}\n{log}");
    assert_eq!(told[0]["rows"][0][0], "Ada Lovelace", "{told:?}");
    let card = told[1]["rows"][0][0].as_str().unwrap_or_default();
    assert!(!card.is_empty() && card != CARDS[0], "masked: {told:?}");
    let denied = told[2]["error"].as_str().unwrap_or_default();
    assert!(denied.contains("every row"), "{told:?}");
    let left = place
        .postgres
        .query(DATABASE, "SELECT count(*) FROM scratch");
    assert_eq!(left, "10", "a driver may prepare it, and no more");
    assert!(told[3]["rows"].is_array(), "{told:?}");
    assert_eq!(told[4]["rows"][0][0], user, "{told:?}");
    let note = place
        .postgres
        .query(DATABASE, "SELECT note FROM scratch WHERE id = 1");
    assert_eq!(note, "seen");
    let _ = place
        .postgres
        .query(DATABASE, "UPDATE scratch SET note = 'note 1' WHERE id = 1");
}

fn drops_when_approved(place: &Place, connector: &Connector<'_>) {
    let _ = place.postgres.query(
        DATABASE,
        "CREATE TABLE IF NOT EXISTS doomed (); ALTER TABLE doomed OWNER TO app",
    );
    for gone in [false, true] {
        let mut running = connector
            .agent
            .start(&connector.command(&["DROP TABLE doomed", "SELECT 'still here'"]));
        let held = place.world.wait_for_hold("doomed");
        assert!(running.is_running());
        assert!(place.postgres.has_relation("doomed"), "before its decision");
        match gone {
            true => place.world.approve(held.id()),
            false => place.world.deny(held.id()),
        }
        .expect("root may answer");
        let told = connector.told(&running.finish());
        assert_eq!(told[0]["rows"].is_array(), gone, "{told:?}");
        assert_eq!(told[1]["rows"][0][0], "still here", "{told:?}");
        assert_eq!(place.postgres.has_relation("doomed"), !gone);
    }
}

/// What is worth something is with Holdpoint alone: it asked for one certificate, for a key of its own.
fn nothing_real_got_out(place: &Place, token: Option<&str>) {
    let signed = place.instance.signed();
    assert_eq!(signed.len(), place.certificates_asked_for(), "{signed:?}");
    assert!(!place.instance.entered().is_empty());
    for signed in &signed {
        assert_eq!(signed.access_token.as_deref(), token);
    }
    let exports = place.exports();
    assert!(
        exports.contains("sql.connect.generateEphemeral"),
        "{exports}"
    );
    assert!(!exports.contains(place.world.google.token()));
    assert!(!exports.contains(place.postgres.password()));
}

#[test]
fn the_python_connector_works_with_each_of_its_drivers() {
    let place = Place::new(Role::Plain);
    for driver in ["pg8000", "asyncpg", "psycopg"] {
        let connector = Connector::python(&place.world, driver, "whoever", &[]);
        works(&place, &connector, Role::Plain.name());
    }
    let connector = Connector::python(&place.world, "pg8000", "whoever", &[]);
    drops_when_approved(&place, &connector);
    nothing_real_got_out(&place, None);
    assert_eq!(place.certificates_asked_for(), 1, "one is good for an hour");
}

#[test]
fn the_node_connector_works() {
    let place = Place::new(Role::Plain);
    let connector = Connector::node(&place.world, "whoever", "PASSWORD");
    works(&place, &connector, Role::Plain.name());
    drops_when_approved(&place, &connector);
    nothing_real_got_out(&place, None);
}

#[test]
fn iam_database_authentication_works_with_the_token_that_only_holdpoint_has() {
    let place = Place::new(Role::Iam);
    let user = Role::Iam.name();
    let python = Connector::python(&place.world, "pg8000", user, &["--iam"]);
    works(&place, &python, user);
    let node = Connector::node(&place.world, user, "IAM");
    works(&place, &node, user);
    let token = place.world.google.token().to_owned();
    nothing_real_got_out(&place, Some(&token));
    for entered in place.instance.entered() {
        assert_eq!(entered.access_token.as_ref(), Some(&token));
    }
}

#[test]
fn an_instance_whose_certificate_has_a_name_is_known_by_it() {
    let options = InstanceOptions {
        dns_name: Some("0123456789ab.cdefghijklmn.us-central1.sql.goog"),
        ..InstanceOptions::default()
    };
    let place = Place::with(Role::Plain, options);
    let python = Connector::python(&place.world, "pg8000", "whoever", &[]);
    works(&place, &python, Role::Plain.name());
    let node = Connector::node(&place.world, "whoever", "PASSWORD");
    works(&place, &node, Role::Plain.name());
}

#[test]
fn certificates_are_asked_for_anew_before_they_end() {
    let options = InstanceOptions {
        // Four minutes before its end, one is not used any more.
        lifetime: Duration::from_secs(4 * 60 + 3),
        ..InstanceOptions::default()
    };
    let place = Place::with(Role::Plain, options);
    let connector = Connector::python(&place.world, "pg8000", "whoever", &[]);
    let _ = connector.run(&["SELECT 1"]);
    std::thread::sleep(Duration::from_secs(4));
    let told = connector.run(&["SELECT 2"]);
    assert_eq!(told[0]["rows"][0][0], 2, "{told:?}");
    assert!(place.certificates_asked_for() >= 2);
    let entered = place.instance.entered();
    let (first, last) = (entered.first(), entered.last());
    assert_ne!(first, last, "{entered:?}");
}

#[test]
fn an_instance_that_has_moved_or_has_another_ca_is_found_again() {
    let place = Place::new(Role::Plain);
    let connector = Connector::python(&place.world, "pg8000", "whoever", &[]);
    let _ = connector.run(&["SELECT 1"]);
    // Another one in its place: its own CA, and it knows none of the certificates.
    let other = CloudSql::before(&place.postgres, InstanceOptions::default());
    other.open_in(&place.world);
    place.instance.leads_to(other.door);
    std::thread::sleep(Duration::from_secs(6));
    let told = connector.run(&["SELECT 2"]);
    assert_eq!(told[0]["rows"][0][0], 2, "{told:?}");
    assert_eq!(other.entered().len(), 1);
}

#[test]
fn an_instance_that_is_in_no_connection_is_refused() {
    let place = Place::new(Role::Plain);
    let other = "/sql/v1beta4/projects/lab-project/instances/staging-db";
    let settings = place.instance.settings().to_string();
    let script = place.world.google.script();
    script.say("GET", &format!("{other}/connectSettings"), 200, &settings);
    let python = Connector::python(&place.world, "pg8000", "whoever", &[]);
    let node = Connector::node(&place.world, "whoever", "PASSWORD");
    for connector in [python, node] {
        let connector = connector.to("lab-project:us-central1:staging-db");
        let told = connector.run(&["SELECT 1"]);
        let why = told[0]["failed"].as_str().unwrap_or_default();
        assert!(
            why.contains("staging-db is in no [[connection]]"),
            "{told:?}"
        );
    }
    assert_eq!(
        place
            .world
            .count("POST", &format!("{other}:generateEphemeralCert")),
        0
    );
    assert!(place.instance.entered().is_empty());
}

#[test]
fn the_door_opens_for_a_certificate_of_this_session_and_this_instance_alone() {
    let place = Place::new(Role::Plain);
    let agent = place.world.sandbox();
    let keep = "by_hand certificate prod-db > got && python3 -c 'import json; got = json.load(open(\"got\")); open(\"credential\", \"w\").write(got[\"key\"] + \
                got[\"body\"][\"ephemeralCert\"][\"cert\"])'";
    let settings = format!("by_hand settings {INSTANCE}");
    let enter = format!("by_hand enter {INSTANCE_ADDRESS}");

    let (told, ran) = by_hand(
        &agent,
        &format!("{settings} > s && {keep} && {enter} credential"),
    );
    assert_eq!(
        told["answer"],
        "let in",
        "{ran}\n{}",
        place.world.daemon_log()
    );
    let refused = |steps: &str, what: &str| {
        let entered = place.instance.entered().len();
        let (told, ran) = by_hand(&agent, steps);
        assert!(told["refused"].is_string(), "{what}: {ran}");
        assert_eq!(place.instance.entered().len(), entered, "{what}");
        assert!(
            place.world.daemon_log().contains(what),
            "{what}\n{}",
            place.world.daemon_log()
        );
    };
    // The same home, so the same file: another session's.
    refused(
        &format!("{settings} > s && {enter} credential"),
        "its certificate was signed for another session or another instance",
    );
    refused(
        &format!("{settings} > s && {enter}"),
        "the TLS handshake of a Cloud SQL connector failed",
    );
    let own = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=me -keyout k -out c 2> /dev/null && cat k c > own";
    refused(
        &format!("{settings} > s && {own} && {enter} own"),
        "the TLS handshake of a Cloud SQL connector failed",
    );
    // Nobody has told this session where the instance is.
    refused(
        &format!("{keep} && {enter} credential"),
        "Holdpoint knows no instance of Cloud SQL at 203.0.113.10",
    );
    refused(
        &format!("{settings} > s && {keep} && by_hand enter 203.0.113.99 credential"),
        "Holdpoint knows no instance of Cloud SQL at 203.0.113.99",
    );
}

#[test]
fn what_a_connector_is_told_is_good_for_nothing_but_holdpoint() {
    let place = Place::new(Role::Plain);
    let agent = place.world.sandbox();
    let (settings, ran) = by_hand(&agent, &format!("by_hand settings {INSTANCE}"));
    assert_eq!(settings["status"], 200, "{ran}");
    let ca = settings["body"]["serverCaCert"]["cert"].as_str();
    let own = std::fs::read_to_string(place.world.dir().join("state/connector-ca.pem"));
    assert_eq!(ca, Some(&*own.expect("the daemon made it")), "{ran}");
    assert!(!ran.stdout.contains(&place.instance.server_ca()[30..80]));
    assert_eq!(
        settings["body"]["ipAddresses"][0]["ipAddress"],
        INSTANCE_ADDRESS
    );

    let (answer, ran) = by_hand(&agent, &format!("by_hand certificate {INSTANCE}"));
    assert_eq!(answer["status"], 200, "{ran}");
    assert!(answer["body"]["ephemeralCert"]["cert"].is_string(), "{ran}");
    assert_eq!(
        place.certificates_asked_for(),
        0,
        "Holdpoint signs it itself"
    );
    let key = place.world.dir().join("state/connector-ca.key");
    let key = std::fs::read_to_string(key).expect("the daemon made it");
    assert!(key.contains("PRIVATE KEY") && !ran.stdout.contains(&key[40..90]));
    let hidden = place.world.dir().join("state/connector-ca.key");
    let seen = agent.run(&["cat", hidden.to_str().expect("a plain path")]);
    assert!(!seen.status.success(), "{seen}");
}

/// A stream of gRPC in which a database connection goes. The connector knows what to do when that cannot be.
#[test]
fn the_sql_data_service_is_denied_and_the_connector_goes_the_other_way() {
    let place = Place::new(Role::Plain);
    let options = ["--ip-type", "SQL_DATA"];
    let connector = Connector::python(&place.world, "pg8000", "whoever", &options);
    let ran = connector.agent.run(&connector.command(&["SELECT 1"]));
    let why = "SqlDataService carries a database connection that Holdpoint cannot see into";
    assert!(ran.says(why), "{ran}\n{}", place.world.daemon_log());
    let told = connector.told(&ran);
    assert_eq!(told[0]["rows"][0][0], 1, "{ran}");
    let arrived = place.world.arrivals();
    let mut streams = arrived
        .iter()
        .filter(|it| it.path.contains("SqlDataService"));
    assert!(streams.next().is_none());
    assert!(place.exports().contains("no-sql-data-service"));
    assert_eq!(place.instance.entered().len(), 1);
}
