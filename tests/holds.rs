//! One hold for one operation, however often and by whatever protocol it is sent; one use for one approval.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    footprint,
    world::{Settings, World},
};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";

#[test]
fn a_hold_that_nobody_answers_expires_and_the_client_is_told() {
    let settings = Settings {
        extra_policies: r#"
@id("impatient")
@hold("reviewers")
@hold_for("3s")
forbid(principal, action == Action::"sql.instances.delete", resource);
"#
        .to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let ran = world.sandbox().run(&[
        "curl",
        "-sS",
        "-m",
        "30",
        "-w",
        "\n%{http_code}",
        "-X",
        "DELETE",
        PROD_DB_URL,
    ]);
    let ran = ran.succeeded();
    assert!(ran.stdout.ends_with("\n403"), "{ran}");
    let all = world.approvals().expect("the daemon lists approvals");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].state(), "expired");
    assert!(
        ran.stdout.contains(all[0].id()),
        "the approval's id is missing: {ran}"
    );
    assert!(
        world.approve(all[0].id()).is_err(),
        "it is too late to approve"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}

#[test]
fn an_upload_is_read_whole_before_people_are_asked() {
    let settings = Settings {
        extra_policies: r#"
@id("uploads")
@hold("reviewers")
forbid(principal, action == Action::"storage.objects.insert", resource);
"#
        .to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    // More than is read of an upload that nobody is asked about.
    let media = agent.file("media", vec![b'x'; 1 << 20]);
    let media = format!("@{}", media.display());
    let url = "https://storage.googleapis.com/upload/storage/v1/b/lab-bucket/o?uploadType=media&name=media";
    let running = agent.start(&[
        "curl",
        "-sS",
        "-m",
        "60",
        "-w",
        "\n%{http_code}",
        "-H",
        "Content-Type: application/octet-stream",
        "--data-binary",
        &media,
        url,
    ]);
    let hold = world.wait_for_hold("storage.objects.insert");
    assert_eq!(world.count("POST", "/upload/storage/v1/b/lab-bucket/o"), 0);
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish().succeeded();
    assert!(!ran.stdout.ends_with("\n403"), "{ran}");
    assert_eq!(world.count("POST", "/upload/storage/v1/b/lab-bucket/o"), 1);
}

#[test]
fn a_resend_joins_the_pending_hold() {
    let world = World::start();
    let running = world
        .sandbox()
        .start_python("resend.py", &[PROD_DB_URL, "2", "4", "1"]);
    let hold = world.wait_for_hold("sql.instances.delete");
    sleep(Duration::from_secs(7));
    assert_eq!(
        world.wait_for_hold("sql.instances.delete").id(),
        hold.id(),
        "a second hold"
    );
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish().succeeded();
    assert_eq!(ran.stdout.matches("gave up").count(), 3, "{ran}");
    assert!(
        ran.stdout.lines().any(|line| line.starts_with("200 ")),
        "{ran}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn an_approval_given_between_two_sends_is_used_by_the_next_one() {
    let world = World::start();
    let agent = world.sandbox();
    let gave_up = agent
        .run(&["curl", "-sS", "-m", "2", "-X", "DELETE", PROD_DB_URL])
        .failed();
    assert!(gave_up.says("timed out"), "{gave_up}");
    let hold = world.wait_for_hold("sql.instances.delete");
    world.approve(hold.id()).expect("root may approve");
    assert_eq!(
        world.count("DELETE", PROD_DB),
        0,
        "nobody was there to send it"
    );
    let again = agent
        .run(&["curl", "-sS", "--fail", "-X", "DELETE", PROD_DB_URL])
        .succeeded();
    assert!(again.stdout.contains("DONE"), "{again}");
    assert_eq!(world.count("DELETE", PROD_DB), 1);

    let third = agent.start(&["curl", "-sS", "-X", "DELETE", PROD_DB_URL]);
    let second_hold = world.wait_for_hold("sql.instances.delete");
    assert_ne!(
        second_hold.id(),
        hold.id(),
        "an approval is good for one use"
    );
    world.deny(second_hold.id()).expect("root may deny");
    let _ = third.finish();
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn eight_at_once_are_one_hold_and_one_delete() {
    let world = World::start();
    let running = world
        .sandbox()
        .start_python("resend.py", &[PROD_DB_URL, "60", "1", "8"]);
    let hold = world.wait_for_hold("sql.instances.delete");
    sleep(Duration::from_secs(2));
    assert_eq!(
        world.wait_for_hold("sql.instances.delete").id(),
        hold.id(),
        "more than one hold"
    );
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish().succeeded();
    let answers: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(answers.len(), 8, "{ran}");
    assert_eq!(
        answers.iter().filter(|it| it.starts_with("200 ")).count(),
        1,
        "{ran}"
    );
    assert_eq!(
        answers.iter().filter(|it| it.starts_with("403 ")).count(),
        7,
        "{ran}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn what_is_approved_lets_nothing_else_through() {
    const PATCH_HELD: &str = r#"
@id("ask-for-patches")
@hold("reviewers")
forbid(principal, action in [Action::"sql.instances.patch", Action::"sql.instances.update"], resource);
"#;
    let settings = Settings {
        extra_policies: PATCH_HELD.to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    let send = |method: &str, url: &str, body: &str| {
        let curl = ["curl", "-sS", "-m", "3", "-w", "\n%{http_code}"];
        let rest = [
            "-X",
            method,
            "-H",
            "content-type: application/json",
            "-d",
            body,
            url,
        ];
        agent.run(&[&curl[..], &rest[..]].concat()).stdout
    };
    let small = r#"{"settings":{"tier":"db-f1-micro"}}"#;
    send("PATCH", PROD_DB_URL, small);
    let hold = world.wait_for_hold("sql.instances.patch");
    world.approve(hold.id()).expect("root may approve");

    let staging = PROD_DB_URL.replace("prod-db", "staging-db");
    let in_query = format!("{PROD_DB_URL}?enforceNewSqlNetworkArchitecture=true");
    for (method, url, body) in [
        (
            "PATCH",
            PROD_DB_URL,
            r#"{"settings":{"tier":"db-n1-highmem-64"}}"#,
        ),
        (
            "PATCH",
            PROD_DB_URL,
            r#"{"settings":{"tier":"db-f1-micro","activationPolicy":"NEVER"}}"#,
        ),
        ("PATCH", &staging, small),
        ("PATCH", &in_query, small),
        ("PUT", PROD_DB_URL, small),
    ] {
        let answer = send(method, url, body);
        assert!(
            !answer.ends_with("\n200"),
            "{method} {url} {body}: {answer}"
        );
    }
    let changes = |world: &World| {
        let all = world.arrivals();
        let changes = all
            .iter()
            .filter(|it| it.method == "PATCH" || it.method == "PUT");
        changes.count()
    };
    assert_eq!(changes(&world), 0);
    let another_principal = world.sandbox().token(Some(
        world
            .issuer
            .token_for("repo:example/other:ref:refs/heads/main"),
    ));
    let other = another_principal.run(&[
        "curl",
        "-sS",
        "-m",
        "3",
        "-X",
        "PATCH",
        "-H",
        "content-type: application/json",
        "-d",
        small,
        PROD_DB_URL,
    ]);
    assert!(other.says("timed out"), "{other}");
    assert_eq!(changes(&world), 0);

    // What was approved, and once.
    let answer = send("PATCH", PROD_DB_URL, small);
    assert!(answer.ends_with("\n200"), "{answer}");
    let answer = send("PATCH", PROD_DB_URL, small);
    assert!(!answer.ends_with("\n200"), "{answer}");
    assert_eq!(changes(&world), 1);
}

/// Prints what it takes; timing is for people to judge.
#[test]
fn a_thousand_operations_are_held_at_once() {
    let world = World::start();
    let agents: Vec<_> = (0..5).map(|_| world.sandbox()).collect();
    let before = footprint::memory(&world).expect("the daemon is there");
    let started = Instant::now();
    let clients: Vec<_> = agents
        .iter()
        .enumerate()
        .map(|(at, agent)| agent.start_python("many_holds.py", &[&format!("db{at}"), "200"]))
        .collect();
    let list = || {
        let started = Instant::now();
        let all = world.approvals().expect("the daemon lists approvals");
        (
            all.iter().filter(|it| it.state() == "pending").count(),
            started.elapsed(),
        )
    };
    while list().0 < 1000 {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "only {} are held",
            list().0
        );
        sleep(Duration::from_millis(500));
    }
    let held = started.elapsed();
    let more = footprint::memory(&world)
        .expect("the daemon is there")
        .saturating_sub(before);
    println!(
        "1,000 held on 1,000 connections after {held:?}: {} KiB more memory; the list takes {:?}",
        more >> 10,
        list().1
    );
    assert!(more < 200 << 20, "{} KiB", more >> 10);
    let deletes = world
        .arrivals()
        .iter()
        .filter(|it| it.method == "DELETE")
        .count();
    assert_eq!(deletes, 0);
    drop(clients);
}

#[test]
fn a_held_http2_request_is_told_to_come_back_and_may() {
    let settings = Settings {
        http2_answer_seconds: Some(3),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    let delete = [
        "curl",
        "-sS",
        "--http2",
        "-w",
        "\n%{http_code}",
        "-X",
        "DELETE",
        PROD_DB_URL,
    ];
    let pending = agent.run(&delete).succeeded();
    let hold = world.wait_for_hold("sql.instances.delete");
    assert!(pending.stdout.ends_with("\n403"), "{pending}");
    assert!(
        pending.stdout.contains(hold.id()),
        "the approval's id is missing: {pending}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 0);

    world.approve(hold.id()).expect("root may approve");
    let ran = agent.run(&delete).succeeded();
    assert!(ran.stdout.ends_with("\n200"), "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}
