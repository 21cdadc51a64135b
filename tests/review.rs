//! The inbox, through a real terminal: what waits is seen and answered with keys, and nothing else than what was seen.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{files::holdpoint_binary, terminal::Terminal, world::World};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
const POLICY_URL: &str =
    "https://cloudresourcemanager.googleapis.com/v1/projects/lab-project:setIamPolicy";
/// Longer than a question wants keys to be apart.
const PAUSE: Duration = Duration::from_millis(800);

const DELETE: [&str; 6] = ["curl", "-sS", "-m", "90", "-X", "DELETE"];

/// `holdpoint review` on a terminal, and afterwards how it ended and how it left the terminal.
fn review(world: &World, options: &str) -> Terminal {
    review_of(world, options, (80, 24), &[])
}

fn review_of(
    world: &World,
    options: &str,
    size: (u16, u16),
    environment: &[(&str, &str)],
) -> Terminal {
    let (binary, config) = (world.binary(), world.config());
    let command = format!(
        "{} review {options} --config {}",
        binary.display(),
        config.display()
    );
    Terminal::start(&afterwards(&command), size, environment)
}

fn afterwards(command: &str) -> String {
    format!(
        "{command}; echo \"ended with $?, $(stty -a | grep -oE -- '-?icanon' | head -1)\"; sleep 100"
    )
}

fn delete(world: &World) -> holdpoint_tests::sandbox::Running {
    let mut command = DELETE.to_vec();
    command.push(PROD_DB_URL);
    world.sandbox().start(&command)
}

#[test]
fn what_is_held_is_seen_and_approved_by_keys_in_80_by_24() {
    let world = World::start();
    let terminal = review(&world, "");
    terminal.wait_for(&["Nothing waits for an answer", "live"]);
    let client = delete(&world);
    let hold = world.wait_for_hold("sql.instances.delete");
    // It appears by itself, and rings.
    terminal.wait_for(&[
        "1 waiting",
        "1 held",
        "sql.instances.delete",
        "/instances/prod-db",
    ]);
    assert!(terminal.written().contains(&7), "no bell");

    terminal.press(&["Enter"]);
    let page = terminal.wait_for(&[
        hold.id(),
        "WHAT",
        "WHO",
        "WHY IT IS HELD",
        "hold-deletes (30-holds.cedar:3)",
    ]);
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
    terminal.wait_for(&["curl -sS -m 90 -X DELETE"]);
    terminal.press(&["End"]);
    terminal.wait_for(&["operation", "sql.instances.delete", "held by hold-deletes"]);

    terminal.press(&["a"]);
    terminal.wait_for(&[
        "APPROVE 1 operation?",
        hold.id(),
        "DELETE https://sqladmin.googleapis.com/",
    ]);
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    say_yes(&terminal);
    terminal.wait_for(&["approved, and on its way"]);
    let ran = client.finish().succeeded();
    assert!(ran.stdout.contains("DONE"), "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 1);

    terminal.wait_for(&["Nothing waits for an answer"]);
    terminal.press(&["q"]);
    terminal.wait_for(&["ended with 0, icanon"]);
}

#[test]
fn a_denial_and_its_comment_reach_the_client() {
    let world = World::start();
    let client = delete(&world);
    let hold = world.wait_for_hold("sql.instances.delete");
    let terminal = review(&world, "--quiet");
    terminal.wait_for(&["1 waiting"]);
    terminal.press(&["d"]);
    terminal.wait_for(&["(may be empty): _"]);
    terminal.type_text("prod stays, ask dora ");
    terminal.paste("on\nMonday");
    terminal.press(&["Enter"]);
    terminal.wait_for(&[
        "DENY 1?",
        "comment: prod stays, ask dora on Monday",
        hold.id(),
    ]);
    sleep(PAUSE);
    terminal.press(&["y"]);
    let ran = client.finish().succeeded();
    assert!(ran.says("prod stays, ask dora on Monday"), "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    terminal.wait_for(&["denied"]);
}

/// Reads the question to its end, and says yes. What is asked about may still be coming, and then there is more to read.
fn say_yes(terminal: &Terminal) {
    for _ in 0..40 {
        let screen = terminal.screen();
        let key = if screen.contains("y yes") {
            "y"
        } else if screen.contains("there is more to see") {
            "Space"
        } else {
            return;
        };
        sleep(PAUSE);
        terminal.press(&[key]);
        sleep(PAUSE);
    }
    panic!("it goes on asking:\n{}", terminal.screen());
}

#[test]
fn all_of_a_session_are_approved_in_one_answer() {
    let world = World::start();
    let agent = world.sandbox();
    let script = format!(
        "curl -sS -m 90 -X DELETE {PROD_DB_URL} & curl -sS -m 90 -X DELETE {} & wait",
        PROD_DB_URL.replace("prod-db", "staging-db")
    );
    let client = agent.start(&["sh", "-c", &script]);
    let terminal = review(&world, "");
    terminal.wait_for(&["2 waiting", "2 held"]);
    terminal.press(&["Home", "a"]);
    terminal.wait_for(&["APPROVE 2 operations?", "1 of 2"]);
    say_yes(&terminal);
    terminal.wait_for(&["2 approved"]);
    let ran = client.finish().succeeded();
    assert_eq!(ran.stdout.matches("DONE").count(), 2, "{ran}");
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}

#[test]
fn a_grant_lets_the_same_pass_again() {
    let world = World::start();
    let held =
        std::fs::read_to_string(world.dir().join("policies/30-holds.cedar")).expect("is there");
    let granting = held.replacen(
        "@hold(\"reviewers\")",
        "@hold(\"reviewers\")\n@grantable(\"resource\")",
        1,
    );
    std::fs::write(world.dir().join("policies/30-holds.cedar"), granting).expect("is ours");
    world.stop_daemon().expect("one runs");
    world.start_daemon().expect("starts again");
    let client = delete(&world);
    let _ = world.wait_for_hold("sql.instances.delete");
    let terminal = review(&world, "");
    terminal.wait_for(&["1 waiting"]);
    terminal.press(&["g"]);
    terminal.wait_for(&[
        "GRANT for 30 minutes 1 operation?",
        "whatever else the same",
    ]);
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    // With what is fetched the question gets longer.
    terminal.wait_for(&["WHAT IS THERE"]);
    say_yes(&terminal);
    terminal.wait_for(&["granted for 30 minutes"]);
    let _ = client.finish().succeeded();
    let again = delete(&world).finish().succeeded();
    assert!(
        again.says("was not found"),
        "it got to Google, where there is nothing left to delete: {again}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 2);
}

#[test]
fn keys_that_come_too_soon_answer_nothing() {
    let world = World::start();
    let client = delete(&world);
    let _ = world.wait_for_hold("sql.instances.delete");
    let terminal = review(&world, "");
    terminal.wait_for(&["1 waiting"]);
    terminal.press(&["a", "y", "y", "y", "y"]);
    terminal.wait_for(&["APPROVE 1 operation?"]);
    for _ in 0..40 {
        terminal.press(&["y"]);
        sleep(Duration::from_millis(30));
    }
    terminal.wait_for(&["APPROVE 1 operation?"]);
    assert_eq!(
        world.wait_for_hold("sql.instances.delete").state(),
        "pending"
    );
    terminal.press(&["Escape"]);
    terminal.wait_for(&["Not answered", "1 waiting"]);
    drop(client);
}

#[test]
fn hostile_text_does_not_get_to_the_terminal() {
    let world = World::start();
    let agent = world.sandbox();
    let member = "user:\u{202e}gpj\u{200b}.\u{9b}2J\u{301}@x.example";
    let body = json!({"policy": {"bindings": [{"role": "roles/owner", "members": [member]}]},
        "note": "\u{1b}]0;owned\u{7}", "wide": "日本"});
    // As they are, not as JSON would spell them.
    let body = body.to_string();
    assert!(body.contains('\u{202e}'));
    let body = agent.file("body.json", body);
    let agent_header = "user-agent: evil \u{202e}fdp";
    let data = format!("@{}", body.display());
    let client = agent.start(&[
        "curl",
        "-sS",
        "-m",
        "90",
        "-H",
        "content-type: application/json",
        "-H",
        agent_header,
        "--data-binary",
        &data,
        POLICY_URL,
        "\u{1b}[2Jcommand",
    ]);
    let hold = world.wait_for_hold("setIamPolicy");
    let terminal = review(&world, "");
    terminal.wait_for(&["1 waiting"]);
    terminal.press(&["Enter"]);
    terminal.wait_for(&[hold.id(), "\\u{1b}[2Jcommand"]);
    let mut seen = String::new();
    for _ in 0..6 {
        seen.push_str(&terminal.screen());
        terminal.press(&["PageDown"]);
        sleep(Duration::from_millis(100));
    }
    assert!(seen.contains("\\u{202e}gpj\\u{200b}."), "{seen}");
    assert!(seen.contains("日本"), "{seen}");
    let written = String::from_utf8_lossy(&terminal.written()).into_owned();
    for bad in [
        "\u{202e}",
        "\u{200b}",
        "\u{301}",
        "\u{9b}",
        "\u{1b}]0;",
        "\u{1b}[2Jcommand",
    ] {
        assert!(!written.contains(bad), "{bad:?} got through");
    }
    drop(client);
}

#[test]
fn a_lost_daemon_is_told_and_found_again() {
    let world = World::start();
    let client = delete(&world);
    let _ = world.wait_for_hold("sql.instances.delete");
    let terminal = review(&world, "");
    terminal.wait_for(&["1 waiting"]);
    world.kill_daemon().expect("one runs");
    terminal.wait_for(&["NO CONNECTION", "cannot reach the daemon"]);
    terminal.press(&["a"]);
    sleep(PAUSE);
    assert!(!terminal.screen().contains("APPROVE"), "{terminal}");
    world.start_daemon().expect("starts again");
    terminal.wait_until("a connection", |screen| {
        screen.contains("live") && !screen.contains("NO CONNECTION")
    });
    drop(client);
}

#[test]
fn signals_give_the_terminal_back_and_sizes_change() {
    let world = World::start();
    let client = delete(&world);
    let hold = world.wait_for_hold("sql.instances.delete");
    let terminal = review_of(&world, "", (80, 24), &[("NO_COLOR", "1")]);
    terminal.wait_for(&["1 waiting"]);
    assert!(
        !String::from_utf8_lossy(&terminal.written()).contains("\u{1b}[38;5"),
        "a colour"
    );
    terminal.resize(40, 8);
    terminal.wait_for(&["Too small"]);
    terminal.resize(160, 50);
    // List and page side by side.
    terminal.wait_for(&["1 waiting", "WHY IT IS HELD", hold.id()]);
    let shell = terminal.pid().expect("a shell");
    let children =
        std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("in /proc");
    let program: i32 = children.trim().parse().expect("one child");
    kill(Pid::from_raw(program), Signal::SIGTERM).expect("it is there");
    terminal.wait_for(&["ended with 0, icanon"]);
    assert!(!terminal.screen().contains("1 waiting"), "{terminal}");
    drop(client);
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let binary = holdpoint_binary().expect("is built");
    let mut command = std::process::Command::new(binary);
    command
        .args(["review", "--socket", "/nowhere"])
        .stdin(Stdio::null());
    let output = command.output().expect("starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`holdpoint approvals`"), "{said}");
}

#[test]
fn a_thousand_are_listed_and_moved_through_at_once() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let socket = dir.path().join("control.sock");
    let list =
        json!({"revision": 1, "approvals": (0..1000).map(pending).collect::<Vec<_>>()}).to_string();
    let listener = UnixListener::bind(&socket).expect("binds");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let list = list.clone();
            std::thread::spawn(move || serve(stream, &list));
        }
    });
    let binary = holdpoint_binary().expect("is built");
    let command = format!("{} review --socket {}", binary.display(), socket.display());
    let started = Instant::now();
    let terminal = Terminal::start(&afterwards(&command), (80, 24), &[]);
    terminal.wait_for(&["1000 waiting"]);
    println!(
        "1,000 are on the screen {:?} after the terminal's start",
        started.elapsed()
    );
    let started = Instant::now();
    terminal.press(&["End"]);
    terminal.wait_for(&["instances/db-0999"]);
    println!("End: {:?}", started.elapsed());
    let started = Instant::now();
    terminal.press(&["Home"]);
    // As many as a reader of terminals takes in at once (1 KiB), as of a key that is held down.
    for _ in 0..5 {
        terminal.press(&["Down"; 100]);
    }
    terminal.wait_until("the 490th", |screen| {
        screen
            .lines()
            .any(|line| line.starts_with(">[ ]") && line.contains("instances/db-0490"))
    });
    println!("500 times Down: {:?}", started.elapsed());
    terminal.press(&["/"]);
    terminal.type_text("db-0777");
    terminal.wait_for(&["/db-0777_", "instances/db-0777", "1 held"]);
}

/// Answers whatever is asked with the list, as late as is asked for.
fn serve(stream: UnixStream, list: &str) {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().and_then(Result::ok).unwrap_or_default();
    for _ in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {}
    if request.contains("wait=") {
        sleep(Duration::from_secs(5));
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        list.len()
    );
    let _ = (&stream).write_all(head.as_bytes());
    let _ = (&stream).write_all(list.as_bytes());
}

fn pending(number: u32) -> Value {
    let session = number / 50;
    let opened = jiff::Timestamp::now();
    let expires = opened + Duration::from_secs(900 + u64::from(number));
    json!({
        "id": format!("ap-{number:010}"), "state": "pending", "session": format!("s-{session:010}"),
        "principal": "https://issuer.example#repo:acme/infra:ref:refs/heads/main",
        "user": {"uid": 1000, "gid": 1000, "name": "ci"}, "action": "sql.instances.delete",
        "resource": format!("//sqladmin.googleapis.com/projects/lab-project/instances/db-{number:04}"),
        "method": "DELETE", "url": format!("https://sqladmin.googleapis.com/v1/projects/lab-project/instances/db-{number:04}"),
        "traits": [], "digest": "0".repeat(64), "groups": ["dba"],
        "policies": [{"id": "hold-deletes", "file": "30-holds.cedar", "line": 3, "reason": "it destroys something",
            "group": "dba", "min_approvals": 1}],
        "waiting": 1, "opened_at": opened, "opened_at_ms": opened.as_millisecond(), "expires_at": expires,
        "expires_at_ms": expires.as_millisecond(), "decided_at": null, "decided_at_ms": null, "decisions": [],
    })
}
