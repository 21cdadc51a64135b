//! Large, many, slow: what databases and clients may do without the daemon growing with it.

use std::time::Duration;

use holdpoint_tests::{
    database::{self, OBSERVE},
    footprint::{forget_peak, memory, peak_memory},
    patience::{wait_until, wait_within},
    postgres::{DATABASE, LOOKUP, Options, Postgres},
    sandbox::{Ran, Sandbox},
    world::{Settings, World},
};

/// What the daemon may grow by while one connection copies or gives large rows, in bytes. It has about 128 KiB for each direction, and
/// the allocator keeps what others gave back.
const GROWTH: usize = 32 << 20;
/// Of all that is not one row and is not masked.
const MEGABYTE: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(400);

/// How many megabytes are copied.
const COPIED: usize = 1024;

/// As fast as it can be: what it is asked is not of interest here.
fn postgres() -> Postgres {
    let options = Options {
        logs_statements: false,
        ..Options::default()
    };
    options.start()
}

fn world(postgres: &Postgres, policies: &str, configuration: &str) -> World {
    Settings::with_database(postgres)
        .policies(policies)
        .configuration(&format!("{OBSERVE}{configuration}"))
        .silent()
        .start()
}

fn agent(world: &World) -> Sandbox<'_> {
    database::agent(world).limit(LIMIT)
}

/// One task of `postgres-client`, and the most that the daemon grew by meanwhile, in bytes.
fn client(world: &World, task: &str, size: usize) -> (Ran, usize) {
    let agent = agent(world);
    let program = agent.program("postgres-client");
    forget_peak(world).expect("the daemon runs");
    let before = memory(world).expect("the daemon runs");
    let ran = agent.run(&[&program, task, &size.to_string()]);
    let peak = peak_memory(world).expect("the daemon runs");
    let grown = peak.saturating_sub(before);
    let (took, grown_by) = (ran.took, grown / MEGABYTE);
    println!("{task} {size}: {took:.1?}, the daemon grew by {grown_by} MiB");
    let ran = ran.succeeded();
    assert!(ran.says(&format!("{task}: well")), "{ran}");
    (ran, grown)
}

/// One task of `postgres-client`, for which the daemon grows by less than so many bytes.
fn client_within(most: usize, world: &World, task: &str, size: usize) -> Ran {
    let (ran, grown) = client(world, task, size);
    assert!(grown < most, "{task} {size}: {} MiB", grown / MEGABYTE);
    ran
}

#[test]
fn what_is_copied_in_and_out_takes_no_memory() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    // Whatever the first connection of all makes the daemon allocate for good.
    client(&world, "usual", 1);
    for task in ["copy-in", "copy-out"] {
        client_within(GROWTH, &world, task, COPIED);
    }
    let rows = postgres.query(
        DATABASE,
        "SELECT count(*) || ' ' || sum(length(line)) FROM copied",
    );
    let lines = COPIED * 1024;
    assert_eq!(rows, format!("{lines} {}", lines * 1021));
}

#[test]
fn what_is_masked_while_it_is_copied_out_takes_no_memory() {
    const MASKS: &str = r#"
@id("lines-are-masked") @mask("lines")
permit(principal, action in Action::"postgres.*", resource);
"#;
    const SET: &str = "[[mask]]\nname = \"lines\"\ncolumns = [\"public.copied.line\"]\n";
    let postgres = postgres();
    let _ = postgres.query(
        DATABASE,
        &format!(
            "SET ROLE app; CREATE TABLE copied AS SELECT id::int, repeat('x', 1021) AS line FROM generate_series(1, {}) AS id",
            COPIED * 1024
        ),
    );
    let world = world(&postgres, MASKS, SET);
    client(&world, "usual", 1);
    client_within(GROWTH, &world, "copy-masked", COPIED);
}

#[test]
fn a_row_of_64_megabytes_goes_through_and_a_parameter_of_that_size_is_refused() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "usual", 1);
    client_within(GROWTH, &world, "row", 64);
    // 16 MiB are the limit of what people can be shown and the record can hold the digest of.
    let ran = client_within(GROWTH, &world, "parameter", 64);
    assert!(ran.says("refused: 54000"), "{ran}");
    // What one session may take up.
    let ran = client_within(128 * MEGABYTE, &world, "parameter", 15);
    assert!(!ran.says("refused"), "{ran}");
}

#[test]
fn a_masked_row_that_is_too_large_is_withheld_in_words() {
    const MASKS: &str = r#"
@id("notes-are-masked") @mask("notes")
permit(principal, action in Action::"postgres.*", resource);
"#;
    const SET: &str = "[[mask]]\nname = \"notes\"\ncolumns = [\"public.scratch.note\"]\n";
    let postgres = postgres();
    let _ = postgres.query(
        DATABASE,
        "UPDATE scratch SET note = repeat('0123456789abcdef', 4 * 1024 * 1024) WHERE id = 1",
    );
    let world = world(&postgres, MASKS, SET);
    let ask = |id: u32| {
        let sql = format!("SELECT id, note FROM scratch WHERE id = {id}");
        agent(&world).start_psql(&[&sql]).finish()
    };
    let ran = ask(1).failed();
    assert!(ran.says("withholds this result"), "{ran}");
    let ran = ask(2).succeeded();
    assert!(!ran.says("note 2"), "{ran}");
}

#[test]
fn two_hundred_connections_work_at_once() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "usual", 1);
    // Two sockets, TLS with the server, and 64 KiB to read into for each direction.
    client_within(200 * MEGABYTE / 2, &world, "crowd", 200);
    wait_until_backends_are_gone(&postgres);
}

#[test]
fn ten_thousand_statements_in_one_pipeline_are_answered_in_their_order() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "usual", 1);
    client_within(4 * GROWTH, &world, "pipeline", 10_000);
}

#[test]
fn a_pipeline_that_is_faster_than_its_server_is_not_refused() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "slow-pipeline", 2000);
}

#[test]
fn what_a_session_has_remembered_is_bounded_and_given_back() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "usual", 1);
    client_within(160 * MEGABYTE, &world, "hoard", 300);
    client(&world, "usual", 1);
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody_else_and_goes_with_its_session() {
    let postgres = postgres();
    let world = world(&postgres, "", "");
    client(&world, "usual", 1);
    forget_peak(&world).expect("the daemon runs");
    let before = memory(&world).expect("the daemon runs");
    let stalls = agent(&world);
    let program = stalls.program("postgres-client");
    let stalled: Vec<_> = (0..8)
        .map(|_| stalls.start(&[&program, "stalled"]))
        .collect();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'ClientWrite'";
    wait_until("all of them stall", || {
        postgres.query(DATABASE, waits) == "8"
    });
    client(&world, "usual", 1);
    let grown = peak_memory(&world)
        .expect("the daemon runs")
        .saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB", grown / MEGABYTE);
    drop(stalled);
    wait_until_backends_are_gone(&postgres);
}

/// Connections of agents, not those of Holdpoint's own look-ups.
fn wait_until_backends_are_gone(postgres: &Postgres) {
    let left = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND application_name <> '{LOOKUP}'"
    );
    let gone = Duration::from_secs(20);
    wait_within(gone, "no connection stays behind", || {
        postgres.query(DATABASE, &left) == "0"
    });
}
