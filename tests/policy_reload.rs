//! Policies are replaced as a whole, while the daemon runs, and only by ones that are valid.

use std::{fs, time::Duration};

use holdpoint_tests::{
    database::OBSERVE,
    reviewer::events_of_kind,
    sandbox::{Running, Sandbox},
    world::{INSTANCES_URL, Settings, World},
};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";

const NO_READS: &str = r#"@id("no-reads")
forbid (principal, action == Action::"sql.instances.get", resource);"#;
const NO_DELETES: &str = r#"@id("no-deletes")
forbid (principal, action == Action::"sql.instances.delete", resource);"#;

#[test]
fn new_policies_count_at_once_and_broken_ones_never() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let get = ["curl", "-sS", "--fail", url.as_str()];
    let _ = world.sandbox().run(&get).succeeded();

    world.reload(NO_READS, "policies reloaded");
    let _ = world.sandbox().run(&get).failed();

    world.reload("permit (", "the running policies stay in force");
    let _ = world.sandbox().run(&get).failed();

    world.reload("", "policies reloaded");
    let _ = world.sandbox().run(&get).succeeded();
}

#[test]
fn an_approval_does_not_outlive_the_policy_it_was_asked_under() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let held = world
        .sandbox()
        .start(&["curl", "-sS", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("sql.instances.delete");
    world.reload(NO_DELETES, "policies reloaded");
    world.approve(hold.id()).expect("root may approve");
    let told = held.finish();
    assert!(told.says("policy about"), "{told}");
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}

#[test]
fn policies_are_replaced_under_load_without_a_gap_and_without_a_failure() {
    let world = World::start();
    world.reload(NO_DELETES, "policies reloaded");
    // Ends with the first request that fails.
    let ask = ["--connections", "4", "--seconds", "12", INSTANCES_URL];
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let agent = world.sandbox();
            let program = agent.program("load-generator");
            agent.start(&[&[program.as_str()][..], &ask].concat())
        })
        .collect();
    let agent = world.sandbox();
    let end = agent.home().join("end");
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let script = "while [ ! -e \"$1\" ]; do curl -sS -o /dev/null -w '%{http_code}\\n' -X DELETE \"$2\"; done";
    let end_path = end.to_str().expect("a plain path");
    let deleting = agent.start(&["sh", "-c", script, "sh", end_path, &url]);

    let (mut asking, mut reloads) = (asking, 0);
    while asking.iter_mut().any(Running::is_running) {
        // Now and then a file that is not valid.
        let (policy, outcome) = match reloads % 5 {
            4 => ("permit (", "the running policies stay in force"),
            _ => (NO_DELETES, "policies reloaded"),
        };
        world.reload(policy, outcome);
        reloads += 1;
    }
    fs::write(&end, "").expect("our own");
    for asking in asking {
        let _ = asking.finish().succeeded();
    }
    let told = deleting.finish().succeeded();
    let codes: Vec<_> = told.stdout.lines().collect();
    assert!(
        codes.len() > 10 && codes.iter().all(|code| *code == "403"),
        "{told}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    assert!(reloads > 10, "{reloads} reloads");
}

const HOST: &str = "packages.example";
const PACKAGES: &str = r#"@id("packages")
permit (principal, action in Action::"net", resource in Host::"packages.example");"#;
const PACKAGES_HELD: &str = r#"@id("packages-held") @hold("reviewers")
forbid (principal, action == Action::"net.connect", resource in Host::"packages.example");"#;

/// Connects, leaves the file `up`, and waits until the connection ends.
const LINGER: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
with socket.create_connection(("packages.example", 443)) as tcp:
    with context.wrap_socket(tcp, server_hostname="packages.example") as tls:
        open(sys.argv[2], "w").close()
        try:
            tls.recv(1)
        except OSError:
            pass
print("it ended")
"#;

fn linger(world: &World, agent: &Sandbox<'_>) -> Running {
    let pem = fs::read(&world.google.ca_file).expect("the stand-in's certificate");
    let ca = agent.file("real-ca.pem", pem);
    let up = agent.home().join("up");
    let [ca, up_path] = [&ca, &up].map(|it| it.to_str().expect("a plain path"));
    let lingering = agent.start(&["/usr/bin/python3", "-c", LINGER, ca, up_path]);
    for _ in 0..400 {
        if up.exists() {
            return lingering;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not connect: {}", lingering.finish());
}

#[test]
fn a_connection_that_policy_no_longer_allows_is_cut() {
    let settings = Settings {
        hosts: vec![HOST.to_owned()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    for (revoking, why) in [
        ("", "is not permitted"),
        (
            &*format!("{PACKAGES}\n{PACKAGES_HELD}"),
            "needs an approval",
        ),
    ] {
        world.reload(PACKAGES, "policies reloaded");
        let agent = world.sandbox();
        let mut lingering = linger(&world, &agent);

        let unrelated = format!("{PACKAGES}\n{NO_DELETES}");
        world.reload(&unrelated, "policies reloaded");
        world.reload("permit (", "the running policies stay in force");
        std::thread::sleep(Duration::from_millis(300));
        assert!(lingering.is_running(), "it is still allowed");

        let cut = events_of_kind(&world, "connection_cut").len();
        world.reload(revoking, "policies reloaded");
        let told = lingering.finish().succeeded();
        assert!(told.stdout.contains("it ended"), "{told}");
        let events = events_of_kind(&world, "connection_cut");
        assert_eq!(events.len(), cut + 1, "{events:#?}");
        let reasons: Vec<_> = events.iter().map(|it| it["reason"].to_string()).collect();
        assert!(reasons.iter().any(|it| it.contains(why)), "{reasons:?}");
        assert_eq!(events[0]["destination"], "packages.example:443");
        assert!(
            events
                .iter()
                .all(|it| it["request_bytes"].as_u64() > Some(100)),
            "{events:#?}"
        );
    }
}

/// Sends an object whose end is long in coming, leaves the file `up` once the beginning is gone (more than policy looks into before it
/// decides), and says how it was answered.
const UPLOAD: &str = r#"
import http.client, sys, time
google = http.client.HTTPSConnection("storage.googleapis.com", timeout=20)
google.putrequest("POST", "/upload/storage/v1/b/lab-bucket/o?uploadType=media&name=large")
google.putheader("Content-Type", "application/octet-stream")
google.putheader("Transfer-Encoding", "chunked")
google.endheaders()
def send(length):
    google.send(b"%x\r\n%s\r\n" % (length, b"x" * length))
send(3_000_000)
open(sys.argv[1], "w").close()
try:
    for _ in range(150):
        send(1000)
        time.sleep(0.1)
    google.send(b"0\r\n\r\n")
except OSError:
    pass
try:
    answer = google.getresponse()
    print(answer.status, answer.read().decode())
except (OSError, http.client.HTTPException):
    print("broken off")
"#;
const UPLOADS: &str = r#"@id("uploads")
permit (principal, action == Action::"storage.objects.insert", resource);"#;
const NO_UPLOADS: &str = r#"@id("no-uploads")
forbid (principal, action == Action::"storage.objects.insert", resource);"#;

#[test]
fn an_upload_that_policy_no_longer_allows_is_cut_and_the_record_tells_how_far_it_came() {
    let world = World::start();
    world.reload(UPLOADS, "policies reloaded");
    let agent = world.sandbox();
    let up = agent.home().join("up");
    let up_path = up.to_str().expect("a plain path");
    let mut upload = agent.start(&["/usr/bin/python3", "-c", UPLOAD, up_path]);
    for _ in 0..400 {
        if up.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let unrelated = format!("{UPLOADS}\n{NO_DELETES}");
    world.reload(&unrelated, "policies reloaded");
    std::thread::sleep(Duration::from_millis(500));
    assert!(upload.is_running(), "it is still allowed");
    assert!(events_of_kind(&world, "connection_cut").is_empty());

    world.reload(NO_UPLOADS, "policies reloaded");
    let told = upload.finish().succeeded();
    assert!(
        told.says("broke this off") || told.says("broken off"),
        "{told}"
    );
    let cut = events_of_kind(&world, "connection_cut");
    assert_eq!(cut.len(), 1, "{cut:#?}");
    let sent = cut[0]["request_bytes"].as_u64().expect("a number");
    assert!((3_000_000..3_150_001).contains(&sent), "{cut:#?}");
    let outcomes = events_of_kind(&world, "outcome");
    let outcome = outcomes.iter().find(|it| it["result"] == "cut");
    let outcome = outcome.unwrap_or_else(|| panic!("no outcome tells of it: {outcomes:#?}"));
    assert_eq!(outcome["request_bytes"], sent);
}

fn delete(url: &str) -> [&str; 6] {
    ["curl", "-sS", "--fail", "-X", "DELETE", url]
}

#[test]
fn observed_policy_lets_everything_pass_that_can_be_read_and_says_so() {
    let settings = Settings {
        extra_configuration: OBSERVE.to_owned(),
        extra_policies: NO_READS.to_owned(),
        hosts: vec![HOST.to_owned()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    assert!(world.daemon_log().contains("POLICY IS ONLY OBSERVED"));
    let agent = world.sandbox();
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");

    // What policy denies, and what it would hold.
    let _ = agent.run(&["curl", "-sS", "--fail", &url]).succeeded();
    let _ = agent.run(&delete(&url)).succeeded();
    assert_eq!(world.count("DELETE", PROD_DB), 1);
    let mut verdicts: Vec<_> = events_of_kind(&world, "intent")
        .iter()
        .map(|it| {
            (
                it["decision"]["verdict"].to_string(),
                it["decision"]["observed"].to_string(),
            )
        })
        .collect();
    verdicts.sort();
    assert_eq!(
        verdicts,
        [("\"deny\"", "true"), ("\"hold\"", "true")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    assert!(events_of_kind(&world, "hold").is_empty(), "nobody is asked");
    // A host that no policy names, until policy counts again.
    let lingering = linger(&world, &agent);

    // What is no matter of policy.
    let with_token = format!("{url}?access_token=ya29.mine");
    let _ = agent.run(&delete(&with_token)).failed();
    assert_eq!(world.count("DELETE", PROD_DB), 1);

    let status = world.holdpoint_json(&["status"]).expect("a status");
    assert_eq!(status["policy"]["mode"], "observe");
    let shown = world.holdpoint(&["status"]).output().expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("POLICY IS ONLY OBSERVED"), "{shown}");

    // Enforced from the next reload on.
    let configuration = fs::read_to_string(world.config()).expect("our own");
    let enforcing = configuration.replace("\"observe\"", "\"enforce\"");
    fs::write(world.config(), enforcing).expect("our own");
    world.reload(NO_DELETES, "policies reloaded");
    let _ = lingering.finish().succeeded();
    assert_eq!(events_of_kind(&world, "connection_cut").len(), 1);
    let _ = agent.run(&["curl", "-sS", "--fail", &url]).failed();
    let _ = agent.run(&delete(&url)).failed();
    assert_eq!(world.count("DELETE", PROD_DB), 1);
}
