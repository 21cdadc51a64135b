//! Approvals and grants outlive the daemon; people are told apart by who they are; nobody answers for themselves.

use std::{
    os::unix::process::CommandExt as _,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    sandbox::Sandbox,
    world::{Settings, World},
};
use serde_json::{Value, json};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
const STAGING_DB: &str = "/sql/v1beta4/projects/lab-project/instances/staging-db";
const STAGING_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/staging-db";
/// A user of every host that no agent runs as.
const BIN: u32 = 2;

/// Reads are held, too, and may be granted.
const GRANTABLE: &str = r#"
@id("ask-for-reads")
@hold("reviewers")
@grantable("resource, project")
forbid(principal, action == Action::"sql.instances.get", resource);
"#;

fn delete(agent: &Sandbox<'_>, patience: &str) -> String {
    let args = [
        "curl",
        "-sS",
        "-m",
        patience,
        "-w",
        "\n%{http_code}",
        "-X",
        "DELETE",
        PROD_DB_URL,
    ];
    agent.run(&args).stdout
}

fn read(agent: &Sandbox<'_>, url: &str, patience: &str) -> String {
    let args = ["curl", "-sS", "-m", patience, "-w", "\n%{http_code}", url];
    agent.run(&args).stdout
}

/// What the daemon says to `holdpoint ARGS`, or why it does not.
fn ask(world: &World, uid: u32, args: &[&str]) -> Result<String, String> {
    let output = world.holdpoint(args).uid(uid).output().expect("starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn what_waits_is_answered_after_a_restart_and_what_is_approved_runs_once() {
    let world = World::start();
    let agent = world.sandbox();
    delete(&agent, "2");
    let hold = world.wait_for_hold("sql.instances.delete");
    let shown = |world: &World| {
        let mut shown = world
            .holdpoint_json(&["approvals", "show", hold.id()])
            .expect("shown");
        shown["waiting"] = Value::Null;
        shown
    };
    let before = shown(&world);
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    assert_eq!(shown(&world), before);
    world.approve(hold.id()).expect("root may approve");

    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    // Eight at once: one uses the approval, the others ask for another, together.
    let resends = agent.start_python("resend.py", &[PROD_DB_URL, "60", "1", "8"]);
    let other = world.wait_for_hold("sql.instances.delete");
    assert_ne!(other.id(), hold.id());
    let all_there = || {
        let others = world.find_hold("sql.instances.delete", Duration::from_secs(5));
        others.is_ok_and(|it| it.0["waiting"] == 7) && world.count("DELETE", PROD_DB) == 1
    };
    let started = Instant::now();
    while !all_there() {
        assert!(started.elapsed() < Duration::from_secs(20), "not seven");
        sleep(Duration::from_millis(50));
    }
    world.deny(other.id()).expect("root may deny");
    let ran = resends.finish().succeeded().stdout;
    let answered = |status: &str| ran.lines().filter(|it| it.starts_with(status)).count();
    assert_eq!((answered("200 "), answered("403 ")), (1, 7), "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 1);

    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    delete(&agent, "2");
    assert_ne!(
        world.wait_for_hold("sql.instances.delete").id(),
        hold.id(),
        "it was used"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn a_grant_covers_more_of_the_same_over_restarts_until_it_is_revoked() {
    let settings = Settings {
        extra_policies: GRANTABLE.to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    let held = agent.start(&["curl", "-sS", "--fail", STAGING_DB_URL]);
    let hold = world.wait_for_hold("sql.instances.get");
    let grant = ["approvals", "grant", hold.id(), "--for", "10m"];
    let refused = ask(
        &world,
        0,
        &["approvals", "grant", hold.id(), "--for", "30h"],
    );
    assert!(refused.expect_err("too long").contains("at most"));
    let grant: Value = world.holdpoint_json(&grant).expect("granted");
    let _ = held.finish().succeeded();
    assert!(read(&agent, STAGING_DB_URL, "10").ends_with("\n200"));
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    assert!(read(&agent, STAGING_DB_URL, "10").ends_with("\n200"));
    let before = world.count("GET", STAGING_DB);
    assert_eq!(before, 3);
    // Neither another resource nor another principal.
    read(&agent, PROD_DB_URL, "2");
    assert!(world.find_hold("prod-db", Duration::from_secs(5)).is_ok());
    let other = world
        .issuer
        .token_for("repo:example/other:ref:refs/heads/main");
    let stranger = world.sandbox().token(Some(other));
    read(&stranger, STAGING_DB_URL, "2");
    assert!(
        world
            .find_hold("staging-db", Duration::from_secs(5))
            .is_ok()
    );

    let id = grant["id"].as_str().expect("an id");
    assert!(ask(&world, 0, &["grants"]).expect("listed").contains(id));
    ask(&world, 0, &["grants", "revoke", id]).expect("revoked");
    read(&agent, STAGING_DB_URL, "2");
    assert_eq!(world.count("GET", STAGING_DB), before);
    let list = world.holdpoint_json(&["grants"]);
    assert_eq!(list.expect("listed"), json!([]));
}

#[test]
fn a_connection_that_lives_by_a_grant_ends_with_it() {
    const HOST: &str = "packages.example";
    let settings = Settings {
        extra_policies: r#"
@id("packages")
permit(principal, action in Action::"net", resource in Host::"packages.example");
@id("ask-for-packages")
@hold("reviewers")
@grantable("resource")
forbid(principal, action == Action::"net.connect", resource in Host::"packages.example");
"#
        .to_owned(),
        hosts: vec![HOST.to_owned()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    let program = "import socket, ssl, sys\n\
        context = ssl._create_unverified_context()\n\
        stream = socket.create_connection(('packages.example', 443))\n\
        stream = context.wrap_socket(stream, server_hostname='packages.example')\n\
        print('open', flush=True)\n\
        stream.settimeout(20)\n\
        try:\n    print('closed', stream.recv(1))\n\
        except ConnectionResetError:\n    print('closed')\n\
        except ssl.SSLError:\n    print('closed')\n";
    let first = agent.start(&["python3", "-c", program]);
    let hold = world.wait_for_hold("net.connect");
    let grant = ["approvals", "grant", hold.id(), "--for", "10m"];
    let grant = world.holdpoint_json(&grant).expect("granted");
    // The first lives by the approval of itself, the second by the grant.
    let mut second = agent.start(&["python3", "-c", program]);
    sleep(Duration::from_secs(3));
    assert!(second.is_running());
    let id = grant["id"].as_str().expect("an id");
    ask(&world, 0, &["grants", "revoke", id]).expect("revoked");
    let ran = second.finish().succeeded();
    assert!(
        ran.stdout.contains("open") && ran.stdout.contains("closed"),
        "{ran}"
    );
    drop(first);
}

/// Deletes are for so many people whom an issuer knows.
fn asking_people(min_approvals: u32) -> Settings {
    Settings {
        extra_policies: format!(
            "@id(\"people\")\n@hold(\"people\")\n@min_approvals(\"{min_approvals}\")\n\
             forbid(principal, action == Action::\"sql.instances.delete\", resource);\n"
        ),
        extra_configuration: "\n[[reviewer_issuer]]\nurl = \"ISSUER\"\naudience = \"reviewers\"\n\
             groups_claim = \"groups\"\n\n[[reviewers.people.oidc]]\nissuer = \"ISSUER\"\ngroups = [\"sre\"]\n"
            .to_owned(),
        ..Settings::default()
    }
}

fn log_in(world: &World, uid: u32, token: String) -> Result<String, String> {
    let file = world.dir().join(format!("token-{uid}"));
    std::fs::write(&file, token).expect("written");
    std::os::unix::fs::chown(&file, Some(uid), None).expect("given away");
    let file = file.to_str().expect("plain");
    ask(world, uid, &["login", "--token-file", file])
}

fn restart(world: &World) {
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
}

#[test]
fn a_login_outlives_the_daemon_and_ends_with_a_logout() {
    let world = World::with(&asking_people(1)).expect("a world");
    let agent = world.sandbox();
    delete(&agent, "2");
    let hold = world.wait_for_hold("sql.instances.delete");
    let approve = |id: &str| ask(&world, BIN, &["approvals", "approve", id]);
    assert!(approve(hold.id()).is_err(), "nobody knows this user");
    let claims = json!({"aud": "reviewers", "sub": "bob", "groups": ["sre"]});
    let token = world.issuer.token_with(claims);
    log_in(&world, BIN, token.clone()).expect("logged in");
    // Times in tokens are whole seconds.
    sleep(Duration::from_secs(1));
    restart(&world);
    // The token counts once all the same.
    assert!(log_in(&world, 0, token).is_err());
    approve(hold.id()).expect("the login is known");
    world
        .approve(hold.id())
        .expect("root is of the other group");
    assert!(delete(&agent, "20").ends_with("\n200"));

    assert!(
        ask(&world, BIN, &["logout"])
            .expect("out")
            .contains("You are logged out")
    );
    assert!(
        ask(&world, BIN, &["logout"])
            .expect("out")
            .contains("were not logged in")
    );
    delete(&agent, "2");
    let hold = world.wait_for_hold("sql.instances.delete");
    assert!(approve(hold.id()).is_err(), "logged out");
    restart(&world);
    assert!(approve(hold.id()).is_err(), "logged out for good");
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn a_reviewer_is_who_the_token_says_and_an_agents_token_makes_none() {
    let world = World::with(&asking_people(2)).expect("a world");
    let asked_by = world.issuer.token_with(json!({"email": "ann@example.com"}));
    let agent = world.sandbox().token(Some(asked_by));
    delete(&agent, "2");
    let hold = world.wait_for_hold("sql.instances.delete");
    let log_in = |uid: u32, token: String| log_in(&world, uid, token);
    let person = |subject: &str, email: &str| {
        let claims = json!({"aud": "reviewers", "sub": subject, "email": email, "groups": ["sre"]});
        world.issuer.token_with(claims)
    };
    let agents_own = log_in(0, world.issuer.token());
    assert!(
        agents_own
            .expect_err("another audience")
            .contains("audience")
    );
    // The owner of the session, under another user.
    log_in(BIN, person("ann", "Ann@example.com")).expect("logged in");
    let refused = ask(&world, BIN, &["approvals", "approve", hold.id()]);
    assert!(refused.expect_err("own").contains("your own operation"));
    // One person with two users is one; two are two.
    let bob = person("bob", "bob@example.com");
    log_in(BIN, bob.clone()).expect("logged in");
    assert!(log_in(0, bob).expect_err("once").contains("used already"));
    let first = ask(&world, BIN, &["approvals", "approve", hold.id()]);
    assert!(first.expect("counts").contains("more people"));
    sleep(Duration::from_secs(1));
    log_in(0, person("bob-again", "bob@example.com")).expect("logged in");
    let again = ask(&world, 0, &["approvals", "approve", hold.id()]);
    assert!(again.expect_err("the same person").contains("already"));
    log_in(0, person("cem", "cem@example.com")).expect("logged in");
    let second = ask(&world, 0, &["approvals", "approve", hold.id()]);
    assert!(second.expect("counts").contains("approved"));
    assert!(delete(&agent, "20").ends_with("\n200"));
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn waiting_sees_what_is_new_and_what_is_answered() {
    let world = World::start();
    let agent = world.sandbox();
    let wait = |args: &[&str]| {
        let all = [
            &["approvals", "wait", "--timeout", "20s", "--output", "json"],
            args,
        ]
        .concat();
        world
            .holdpoint(&all)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let for_new = wait(&[]);
    sleep(Duration::from_secs(1));
    let held = agent.start(&["curl", "-sS", "-X", "DELETE", PROD_DB_URL]);
    let output = for_new.wait_with_output().expect("ends");
    let new: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let id = new[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(new[0]["action"], "sql.instances.delete");
    let for_answer = wait(&[&id]);
    sleep(Duration::from_secs(1));
    world.deny(&id).expect("root may deny");
    let output = for_answer.wait_with_output().expect("ends");
    let answered: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answered[0]["state"], "denied");
    let never = ask(
        &world,
        0,
        &["approvals", "wait", &id, "--state", "approved"],
    );
    assert!(
        never
            .expect_err("denied")
            .contains("will never be approved")
    );
    let _ = held.finish();
}
