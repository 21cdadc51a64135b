//! One hold for one operation, however often and by whatever protocol it is sent; one use for one approval.

use std::{thread::sleep, time::Duration};

use holdpoint_tests::world::{Settings, World};

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
