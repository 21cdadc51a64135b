//! The main job: an unchanged client's call is redirected, recognised, allowed, held or denied, and runs at most once.

use std::{thread::sleep, time::Duration};

use holdpoint_tests::{
    host, python,
    sandbox::{Ran, Running},
    stand_in::now,
    world::{Credential, INSTANCES_URL, Settings, World},
};

const INSTANCES: &str = "/sql/v1beta4/projects/lab-project/instances";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const DELETE_PROD_DB: [&str; 6] = ["gcloud", "sql", "instances", "delete", "prod-db", "--quiet"];

fn world_for_gcloud() -> World {
    host::require_program("gcloud", "google-cloud-cli").unwrap_or_else(|error| panic!("{error}"));
    World::start()
}

/// Approves whatever is held until the command ends; tells when the first approval was given.
fn approve_all(world: &World, mut running: Running) -> (Ran, u64) {
    let mut first = u64::MAX;
    while running.is_running() {
        for approval in world.approvals().expect("the daemon lists approvals") {
            if approval.state() == "pending" {
                first = first.min(now());
                world.approve(approval.id()).expect("root may approve");
            }
        }
        sleep(Duration::from_millis(50));
    }
    (running.finish(), first)
}

#[test]
fn gcloud_lists_instances() {
    let world = world_for_gcloud();
    let ran = world
        .sandbox()
        .run(&["gcloud", "sql", "instances", "list"])
        .succeeded();
    assert!(ran.stdout.contains("prod-db"), "{ran}");
    assert_eq!(world.count("GET", INSTANCES), 1);
}

#[test]
fn the_real_credential_may_come_from_the_metadata_server() {
    let settings = Settings {
        credential: Credential::Metadata,
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", INSTANCES_URL])
        .succeeded();
    assert!(ran.stdout.contains("prod-db"), "{ran}");
}

#[test]
fn a_delete_held_for_95_seconds_runs_once_and_not_before_the_approval() {
    let world = world_for_gcloud();
    let mut running = world
        .sandbox()
        .limit(Duration::from_secs(240))
        .start(&DELETE_PROD_DB);
    let hold = world.wait_for_hold("sql.instances.delete");
    assert!(hold.mentions("prod-db"), "{hold:?}");
    sleep(Duration::from_secs(95));
    assert!(running.is_running(), "gcloud gave up: {}", running.finish());
    assert_eq!(
        world.count("DELETE", PROD_DB),
        0,
        "it left before anybody approved"
    );

    let approving = now();
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish().succeeded();
    assert!(ran.says("Deleted"), "{ran}");
    let deletes: Vec<_> = world
        .arrivals()
        .into_iter()
        .filter(|it| it.asks("DELETE", PROD_DB))
        .collect();
    assert_eq!(deletes.len(), 1);
    assert!(deletes[0].t >= approving, "{deletes:?} before {approving}");
}

#[test]
fn a_denied_delete_never_leaves_and_the_terminal_says_why() {
    let world = world_for_gcloud();
    let running = world.sandbox().start(&DELETE_PROD_DB);
    let hold = world.wait_for_hold("sql.instances.delete");
    world.deny(hold.id()).expect("root may deny");
    let ran = running.finish().failed();
    assert!(
        ran.says("deny by the test"),
        "the reviewer's comment is missing: {ran}"
    );
    assert!(ran.says(hold.id()), "the approval's id is missing: {ran}");
    assert!(ran.says("Nothing was sent to Google; talk to"), "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}

#[test]
fn whoever_was_answered_by_nobody_reads_what_happened_why_and_what_to_do() {
    host::require_program("gcloud", "google-cloud-cli").unwrap_or_else(|error| panic!("{error}"));
    let settings = Settings {
        extra_policies: r#"
@id("impatient")
@hold("reviewers")
@hold_for("5s")
@reason("deletes are for people")
forbid(principal, action == Action::"sql.instances.delete", resource);
"#
        .to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let ran = world.sandbox().run(&DELETE_PROD_DB).failed();
    let all = world.approvals().expect("the daemon lists approvals");
    for part in [
        all[0].id(),
        "Holdpoint held sql.instances.delete",
        "nobody did in time",
        "Nothing was sent to Google; run it again to ask again",
    ] {
        assert!(ran.says(part), "{part:?} is missing: {ran}");
    }
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}

#[test]
fn every_part_of_a_batch_is_held() {
    let world = world_for_gcloud();
    let running = world.sandbox().start(&[
        "gcloud",
        "compute",
        "instances",
        "delete",
        "vm1",
        "vm2",
        "--zone",
        "us-central1-a",
        "--quiet",
    ]);
    let (ran, first_approval) = approve_all(&world, running);
    let ran = ran.succeeded();
    for vm in ["vm1", "vm2"] {
        let path = format!("/compute/v1/projects/lab-project/zones/us-central1-a/instances/{vm}");
        let deletes: Vec<_> = world
            .arrivals()
            .into_iter()
            .filter(|it| it.asks("DELETE", &path))
            .collect();
        assert_eq!(deletes.len(), 1, "{vm}: {ran}");
        assert!(
            deletes[0].t >= first_approval,
            "{vm} was deleted before the approval"
        );
        assert!(ran.says(&format!("/{vm}]")), "{ran}");
    }
}

#[test]
fn a_batch_with_a_denied_part_deletes_nothing() {
    let world = world_for_gcloud();
    let mut running = world.sandbox().start(&[
        "gcloud",
        "compute",
        "instances",
        "delete",
        "vm1",
        "vm2",
        "--zone",
        "us-central1-a",
        "--quiet",
    ]);
    while running.is_running() {
        for approval in world.approvals().expect("the daemon lists approvals") {
            if approval.state() == "pending" {
                world.deny(approval.id()).expect("root may deny");
            }
        }
        sleep(Duration::from_millis(50));
    }
    let ran = running.finish().failed();
    assert!(ran.says("deny by the test"), "{ran}");
    for vm in ["vm1", "vm2"] {
        let path = format!("/compute/v1/projects/lab-project/zones/us-central1-a/instances/{vm}");
        assert_eq!(world.count("DELETE", &path), 0, "{vm}");
    }
}

#[test]
fn gcloud_copies_both_ways_unaltered() {
    let world = world_for_gcloud();
    let agent = world.sandbox();
    let big: Vec<u8> = (0..12_000_000_u32)
        .flat_map(|n| [(n ^ (n >> 7)) as u8])
        .collect();
    for (name, content) in [("hello.txt", b"hello\n".to_vec()), ("big.bin", big)] {
        let there = format!("gs://prod-bucket/{name}");
        let local = agent.file(name, &content);
        let local = local.to_str().expect("a plain path");
        let back = format!("{local}.back");
        let _ = agent
            .run(&["gcloud", "storage", "cp", local, &there])
            .succeeded();
        let _ = agent
            .run(&["gcloud", "storage", "cp", &there, &back])
            .succeeded();
        let returned = std::fs::read(&back).expect("the copy that came back");
        assert!(returned == content, "{name} came back different");
    }
}

#[test]
fn a_firewall_open_to_the_internet_is_denied_on_the_terminal() {
    let world = world_for_gcloud();
    let ran = world.sandbox().run(&[
        "gcloud",
        "compute",
        "firewall-rules",
        "create",
        "fw1",
        "--allow",
        "tcp:22",
        "--source-ranges",
        "0.0.0.0/0",
    ]);
    let ran = ran.failed();
    for part in [
        "Holdpoint denied this",
        "Trying again does not help; ask the owners of the policy",
    ] {
        assert!(ran.says(part), "{part:?} is missing: {ran}");
    }
    assert!(!ran.says("crashed"), "{ran}");
    let firewalls = "/compute/v1/projects/lab-project/global/firewalls";
    assert_eq!(world.count("POST", firewalls), 0);
}

#[test]
fn a_public_bucket_is_denied() {
    let world = world_for_gcloud();
    let ran = world.sandbox().run(&[
        "gcloud",
        "storage",
        "buckets",
        "add-iam-policy-binding",
        "gs://prod-bucket",
        "--member",
        "allUsers",
        "--role",
        "roles/storage.objectViewer",
    ]);
    let _ = ran.failed();
    assert_eq!(world.count("PUT", "/storage/v1/b/prod-bucket/iam"), 0);
}

#[test]
fn curl_speaks_http2() {
    let world = World::start();
    let format = "\n%{http_code} %{http_version}";
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "--http2", "-w", format, INSTANCES_URL])
        .succeeded();
    assert!(ran.stdout.ends_with("\n200 2"), "{ran}");
    assert!(ran.stdout.contains("prod-db"), "{ran}");
}

#[test]
fn a_python_script_stores_and_deletes() {
    let world = World::start();
    let agent = world.sandbox();
    let packages = python::packages(
        "google-cloud-storage",
        &["google-cloud-storage"],
        agent.home(),
    );
    let packages = packages.unwrap_or_else(|error| panic!("{error:#}"));
    let agent = agent
        .env("PYTHONPATH", packages)
        .env("GOOGLE_CLOUD_PROJECT", "lab-project");
    let ran = agent.python("storage.py", &[]).succeeded();
    assert!(ran.stdout.contains("content matches"), "{ran}");

    let (ran, first_approval) = approve_all(&world, agent.start_python("storage.py", &["delete"]));
    let ran = ran.succeeded();
    assert!(ran.stdout.contains("deleted"), "{ran}");
    let path = "/storage/v1/b/prod-bucket/o/from-python.bin";
    let arrivals = world.arrivals();
    let deletes: Vec<_> = arrivals
        .iter()
        .filter(|it| it.asks("DELETE", path))
        .collect();
    assert_eq!(deletes.len(), 1);
    assert!(deletes[0].t >= first_approval);
}
