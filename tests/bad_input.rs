//! Whatever is sent: a clear error, a living daemon, no open path.

use std::{collections::BTreeSet, time::Duration};

use holdpoint_tests::{
    issuer::Flaw,
    reviewer::{events, session_id, sessions},
    sandbox::Ran,
    world::World,
};

const HOME_PATH: &str = "/sql/v1beta4/projects/lab-project/instances";

/// What came back must be a refusal: no answer of the stand-in's, and not silence for ever.
fn assert_refused(kind: &str, ran: &Ran) {
    assert!(!ran.stdout.contains("prod-db"), "{kind} got through: {ran}");
    assert!(
        !ran.stdout.contains("HTTP/1.1 2"),
        "{kind} was answered: {ran}"
    );
    assert!(
        !ran.stdout.contains("never stopped"),
        "{kind} went on: {ran}"
    );
    assert!(
        !ran.stdout.contains("timed out"),
        "{kind} was left waiting: {ran}"
    );
}

fn try_kinds(kinds: &[&str]) -> World {
    let world = World::start();
    for kind in kinds {
        let ran = world.sandbox().python("bad_bytes.py", &[kind]).succeeded();
        assert_refused(kind, &ran);
        let arrived: Vec<_> = world.arrivals();
        assert!(
            arrived.is_empty(),
            "{kind} reached the stand-in: {arrived:?}"
        );
    }
    world.assert_daemon_works(&kinds.join(", "));
    world
}

#[test]
fn what_is_not_tls_is_refused() {
    let world = try_kinds(&["garbage", "plain-http", "ssh"]);
    let told = every_event(&world).contains("connection_refused");
    assert!(told, "the record does not tell of the refused connections");
}

#[test]
fn sni_host_and_authority_must_agree() {
    let _ = try_kinds(&[
        "no-sni",
        "other-sni",
        "unknown-sni",
        "other-host",
        "two-hosts",
        "no-host",
    ]);
}

#[test]
fn over_http2_the_authority_must_be_the_one_of_the_handshake() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{HOME_PATH}");
    let host = "Host: storage.googleapis.com";
    let ran = world
        .sandbox()
        .run(&["curl", "-sSi", "--http2", "-H", host, &url]);
    assert!(!ran.stdout.starts_with("HTTP/2 2"), "{ran}");
    assert!(world.arrivals().is_empty());
    world.assert_daemon_works("another authority");
}

#[test]
fn http_that_goes_round_recognition_is_refused() {
    let _ = try_kinds(&[
        "connect",
        "absolute-form",
        "upgrade",
        "dot-segments",
        "encoded-slash",
        "unknown-method",
    ]);
}

/// RFC 9112, section 6.3: the chunks count and the length does not, so what follows them is a request of its own.
#[test]
fn a_smuggled_request_is_judged_like_any_other() {
    let world = World::start();
    let _ = world.sandbox().python("bad_bytes.py", &["smuggled"]);
    assert_eq!(world.count("DELETE", &format!("{HOME_PATH}/staging-db")), 0);
    world.assert_daemon_works("a smuggled request");
}

#[test]
fn a_megabyte_of_headers_is_refused() {
    let _ = try_kinds(&["megabyte-of-headers", "many-headers"]);
}

#[test]
fn a_body_that_never_ends_is_cut_off() {
    let _ = try_kinds(&["endless-body"]);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let _ = try_kinds(&["slow-head"]);
}

#[test]
fn a_flawed_token_starts_nothing() {
    let world = World::start();
    for flaw in Flaw::ALL {
        let token = world.issuer.flawed(flaw);
        let agent = world.sandbox().token(Some(token.clone()));
        let ran = agent.run(&["touch", "started"]).failed();
        assert_eq!(ran.status.code(), Some(125), "{flaw:?}: {ran}");
        assert!(ran.stderr.contains("holdpoint: "), "{flaw:?}: {ran}");
        assert!(
            !agent.home().join("started").exists(),
            "{flaw:?} started it: {ran}"
        );
        if token.len() > 40 {
            assert!(!ran.says(&token), "{flaw:?}: the token was printed: {ran}");
        }
    }
    let none = world.sandbox().token(None);
    let ran = none.run(&["touch", "started"]).failed();
    assert!(!none.home().join("started").exists(), "{ran}");
    assert_eq!(
        sessions(&world).expect("a list").len(),
        0,
        "a flawed token opened a session"
    );
    world.assert_daemon_works("flawed tokens");
}

#[test]
fn a_rotated_key_is_fetched_and_the_old_one_forgotten() {
    let world = World::start();
    let _ = world.sandbox().run(&["true"]).succeeded();
    let old = world.issuer.token();
    world.issuer.rotate().expect("another key");
    let _ = world.sandbox().run(&["true"]).succeeded();
    let _ = world.sandbox().token(Some(old)).run(&["true"]).failed();
}

#[test]
fn the_control_socket_is_closed_to_sandboxes() {
    let world = World::start();
    let socket = world.control_socket();
    let socket = socket.to_str().expect("a plain path");
    let binary = world.binary();
    let binary = binary.to_str().expect("a plain path");
    let config = world.config();
    let config = config.to_str().expect("a plain path");
    let agent = world.sandbox();
    let raw = agent.run(&[
        "curl",
        "-sS",
        "--unix-socket",
        socket,
        "http://x/v1/approvals",
    ]);
    assert!(
        !raw.stdout.contains("[]") && !raw.stdout.contains("approvals\":"),
        "{raw}"
    );
    let cli = agent
        .run(&[binary, "approvals", "list", "--config", config])
        .failed();
    assert!(!cli.stderr.is_empty(), "{cli}");
    world.assert_daemon_works("control requests from inside");
}

#[test]
fn nobody_approves_what_they_asked_for() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{HOME_PATH}/prod-db");
    let running = world
        .sandbox()
        .start(&["curl", "-sS", "-m", "20", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("sql.instances.delete");
    // Nobody is a reviewer too, in every world, and opened this session.
    let refused = world
        .approve_as(65534, hold.id())
        .expect_err("nobody opened the session");
    assert!(refused.to_string().contains("own"), "{refused:#}");
    assert_eq!(world.count("DELETE", &format!("{HOME_PATH}/prod-db")), 0);
    let _ = running.finish();
}

#[test]
fn a_client_that_gives_up_on_a_hold_is_let_go() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{HOME_PATH}/prod-db");
    let ran = world
        .sandbox()
        .limit(Duration::from_secs(30))
        .run(&["curl", "-sS", "-m", "3", "-X", "DELETE", &url]);
    let _ = ran.failed();
    world.assert_daemon_works("a client that gave up");
    assert_eq!(world.count("DELETE", &format!("{HOME_PATH}/prod-db")), 0);
}

fn every_event(world: &World) -> BTreeSet<String> {
    let all = sessions(world).expect("a list");
    let told = all
        .iter()
        .flat_map(|it| events(world, session_id(it)).expect("events"));
    told.filter_map(|it| it["event"].as_str().map(str::to_owned))
        .collect()
}
