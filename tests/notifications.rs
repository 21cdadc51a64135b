//! People are told of what is held, and may answer from elsewhere; whoever does not listen changes nothing, and a link alone opens nothing.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    files::repository,
    issuer::Flaw,
    mock_server::MockServer,
    reviewer::{Approval, events},
    sandbox::{Running, Sandbox},
    stand_in::Authority,
    terminal::Terminal,
    world::{Settings, World},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const DATABASE: &str = "/sql/v1beta4/projects/lab-project/instances";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What the one reviewer of another issuer is called there.
const MOCK_SUBJECT: &str = "johndoe";

fn url(instance: &str) -> String {
    format!("https://sqladmin.googleapis.com{DATABASE}/{instance}")
}

fn delete(agent: &Sandbox<'_>, instance: &str) -> Running {
    let url = url(instance);
    agent.start(&[
        "curl",
        "-sS",
        "-m",
        "120",
        "-w",
        "\n%{http_code}",
        "-X",
        "DELETE",
        &url,
    ])
}

fn within<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            started.elapsed() < Duration::from_secs(40),
            "not in time: {what}"
        );
        sleep(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Files that only root can read, with the certificate of 127.0.0.1.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: TempDir::new().expect("a directory"),
        };
        fs::set_permissions(files.dir.path(), Permissions::from_mode(0o755)).expect("ours");
        let authority = Authority::new("receivers").expect("an authority");
        let (certificate, key) = authority.leaf_pem("127.0.0.1").expect("a certificate");
        files.put("ca.pem", authority.pem());
        files.put("certificate.pem", &certificate);
        files.put("key.pem", &key);
        files.put("secret", SECRET);
        files
    }

    fn put(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file that everybody may write to.
    fn open(&self, name: &str) -> PathBuf {
        self.put(name, "");
        let path = self.path(name);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("ours");
        path
    }

    fn webhook(&self, port: u16) -> String {
        format!(
            "\n[[notification]]\nkind = \"webhook\"\nurl = \"https://127.0.0.1:{port}/hook\"\nsecret_file = \"{}\"\n\
             ca_file = \"{}\"\nevents = [\"held\", \"decided\"]\n",
            self.shown("secret"),
            self.shown("ca.pem")
        )
    }

    /// News, a line of JSON each, by a command.
    fn command(&self) -> (String, PathBuf) {
        let news = self.open("news");
        let script = format!("cat >> {0}; echo >> {0}", news.display());
        let command = format!(
            "\n[[notification]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nuser = \"nobody\"\nat_once = 1\n"
        );
        (command, news)
    }

    fn answers(&self, port: u16) -> String {
        format!(
            "\n[answers]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"https://127.0.0.1:{port}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.shown("certificate.pem"),
            self.shown("key.pem")
        )
    }
}

fn world(extra_configuration: String, extra_policies: &str) -> World {
    let settings = Settings {
        extra_configuration,
        extra_policies: extra_policies.to_owned(),
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

fn lines(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let whole = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    whole.collect()
}

/// The receiver in Python, which ends with this.
struct Receiver(Child);

impl Receiver {
    fn start(files: &Files, port: u16, plan: &[&str]) -> Self {
        let program = repository().join("tests/clients/webhook_receiver.py");
        let child = Command::new("/usr/bin/python3")
            .arg(program)
            .arg(port.to_string())
            .args([files.path("certificate.pem"), files.path("key.pem")])
            .arg(SECRET)
            .arg(files.path("journal"))
            .args(plan)
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("python3 runs"))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(world: &World, kind: &str, count: &str) -> u64 {
    let status = world.holdpoint_json(&["status"]).expect("it says");
    let all = status["notifications"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let of_kind = all.iter().find(|it| it["kind"] == kind);
    of_kind
        .and_then(|it| it[count].as_u64())
        .unwrap_or_default()
}

#[test]
fn a_webhook_arrives_signed_in_the_end_and_its_outage_blocks_and_opens_nothing() {
    let (files, port) = (Files::new(), free_port());
    let world = world(files.webhook(port), "");
    let agent = world.sandbox();
    // Nobody listens.
    let held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("sql.instances.delete");
    sleep(Duration::from_millis(300));
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 0);
    let plan = ["500", "429:9", "200", "200", "hang"];
    let receiver = Receiver::start(&files, port, &plan);
    let journal = files.path("journal");
    let arrived = within("three attempts", || {
        Some(lines(&journal)).filter(|it| it.len() >= 3)
    });
    assert_eq!(world.wait_for_hold("sql.instances.delete").id(), hold.id());
    for line in &arrived {
        assert_eq!(line["signed"], true, "{line}");
        assert_eq!(
            line["id"],
            format!("{}-held-0", hold.id()),
            "the same each time"
        );
        assert_eq!(line["body"], arrived[0]["body"]);
    }
    let at = |index: usize| arrived[index]["at"].as_f64().expect("a time");
    assert!(at(2) - at(1) >= 9.0, "Retry-After was 9: {arrived:?}");
    let data = &arrived[0]["body"]["data"];
    assert_eq!(data["approval"]["action"], "sql.instances.delete");
    assert_eq!(
        data["answer_url"],
        Value::Null,
        "there is no answer endpoint"
    );
    assert!(!arrived[0].to_string().contains(&world.issuer.token()[..20]));

    world.approve(hold.id()).expect("root may approve");
    let _ = held.finish().succeeded();
    let decided = within("what became of it", || lines(&journal).get(3).cloned());
    assert_eq!(decided["id"], format!("{}-decided", hold.id()));
    assert_eq!(decided["signed"], true);

    // It hangs from here on: whoever waits for people does not wait for it.
    let held = delete(&agent, "staging-db");
    let hold = world.wait_for_hold("sql.instances.delete");
    let _ = within("the hanging request", || lines(&journal).get(4).cloned());
    let answered = Instant::now();
    world.approve(hold.id()).expect("root may approve");
    let _ = held.finish().succeeded();
    assert!(answered.elapsed() < Duration::from_secs(5));
    drop(receiver);
    within("counted", || {
        (told(&world, "webhook", "superseded") == 1).then_some(())
    });
    assert_eq!(told(&world, "webhook", "sent"), 2);
    let metrics = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(world.control_socket())
        .arg("http://x/v1/metrics")
        .output()
        .expect("curl runs");
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    let line = "holdpoint_notifications_total{kind=\"webhook\",end=\"sent\"} 2";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

/// What curl says, with the status as its last line.
fn curl(files: &Files, args: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "-m", "20", "-w", "\n%{http_code}", "--cacert"])
        .arg(files.path("ca.pem"))
        .args(args)
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.parse().unwrap_or_default(), body.to_owned())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn link_of(news: &Path, hold: &Approval, answers: usize) -> String {
    within("the link", || {
        let news = lines(news);
        let held = news.iter().rev().find(|it| {
            let data = &it["data"];
            let counted = data["approval"]["answers"].as_array().map(Vec::len);
            data["approval"]["id"] == hold.id() && counted == Some(answers)
        })?;
        held["data"]["answer_url"].as_str().map(str::to_owned)
    })
}

const PEOPLE: &str = "\n[[reviewer_issuer]]\nurl = \"ISSUER\"\naudience = \"reviewers\"\ngroups_claim = \"groups\"\n\
     \n[[reviewers.reviewers.oidc]]\nissuer = \"ISSUER\"\ngroups = [\"sre\"]\n";
const YES: &str = "{\"verdict\": \"approve\", \"comment\": \"looked at it\"}";

#[test]
fn a_link_lets_a_reviewer_answer_once_and_nobody_else_at_all() {
    let (files, port) = (Files::new(), free_port());
    let (command, news) = files.command();
    let world = world(format!("{PEOPLE}{}{command}", files.answers(port)), "");
    let asked_by = world.issuer.token_with(json!({"email": "ann@example.com"}));
    let agent = world.sandbox().token(Some(asked_by));
    let (held, other) = (delete(&agent, "prod-db"), delete(&agent, "staging-db"));
    let hold = world.wait_for_hold("prod-db");
    let link = link_of(&news, &hold, 0);
    let person = |name: &str, groups: &[&str]| {
        let email = format!("{name}@example.com");
        let claims = json!({"aud": "reviewers", "sub": name, "email": email, "groups": groups});
        world.issuer.token_with(claims)
    };
    let says =
        |url: &str, token: &str, body: &str| curl(&files, &["-H", &bearer(token), "-d", body, url]);
    let (bob, ann) = (person("bob", &["sre"]), person("Ann", &["sre"]));

    // The link alone tells nothing, and takes nothing.
    let (status, page) = curl(&files, &[&link]);
    assert_eq!(status, 200);
    assert!(
        page.contains("Sign in") && !page.contains("prod-db") && !page.contains("sql."),
        "{page}"
    );
    assert_eq!(curl(&files, &["-d", "verdict=approve", &link]).0, 401);
    let (_, head) = curl(&files, &["-I", "-X", "GET", &link]);
    for header in [
        "no-store",
        "frame-ancestors 'none'",
        "default-src 'none'",
        "nosniff",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }

    // Whoever is not asked learns nothing either.
    let (status, text) = says(&link, &person("eve", &["interns"]), YES);
    assert_eq!(status, 403);
    assert!(
        text.contains("not_a_reviewer") && !text.contains("prod-db"),
        "{text}"
    );
    let (status, text) = says(&link, &world.issuer.token(), YES);
    assert_eq!(status, 401, "a token that opens sessions: {text}");
    for flaw in [Flaw::AlgNone, Flaw::Expired, Flaw::Tampered, Flaw::Empty] {
        assert_eq!(
            says(&link, &world.issuer.flawed(flaw), YES).0,
            401,
            "{flaw:?}"
        );
    }
    let (status, text) = says(&link, &ann, YES);
    assert_eq!(status, 403);
    assert!(text.contains("own_operation"), "{text}");

    // A link that was changed is none.
    for (from, to) in [
        ("/0/", "/1/"),
        (hold.id(), world.wait_for_hold("staging-db").id()),
    ] {
        assert_eq!(says(&link.replace(from, to), &bob, YES).0, 404, "{to}");
    }
    let (until, tag) = link.rsplit_once('/').expect("parts");
    let (start, until) = until.rsplit_once('/').expect("parts");
    let later = until.parse::<u64>().expect("a time") + 3600;
    assert_eq!(says(&format!("{start}/{later}/{tag}"), &bob, YES).0, 404);
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 0);

    // No process of a session reaches it.
    let tried = agent.run(&["curl", "-sSk", "-m", "10", &link]).failed();
    assert!(!tried.stdout.contains("Sign in"), "{tried}");

    let (status, shown) = curl(&files, &["-H", &bearer(&bob), &link]);
    assert!(status == 200 && shown.contains("prod-db"), "{shown}");
    assert_eq!(says(&link, &bob, "{\"verdict\": \"maybe\"}").0, 400);
    let long = format!(
        "{{\"verdict\": \"approve\", \"comment\": \"{}\"}}",
        "x".repeat(20_000)
    );
    assert_eq!(says(&link, &bob, &long).0, 413);
    let (status, text) = says(&link, &bob, YES);
    assert_eq!(status, 200, "{text}");
    assert!(held.finish().succeeded().stdout.ends_with("\n200"));
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 1);
    assert_eq!(
        world.count("DELETE", &format!("{DATABASE}/staging-db")),
        0,
        "only that"
    );
    let (status, text) = says(&link, &person("cem", &["sre"]), YES);
    assert_eq!(status, 410, "{text}");

    let session = hold.session().expect("one").to_owned();
    let told = events(&world, &session).expect("recorded");
    let decided = told
        .iter()
        .find(|it| it["event"] == "approval_decided")
        .expect("recorded");
    assert_eq!(
        (&decided["channel"], &decided["uid"]),
        (&json!("token"), &Value::Null)
    );
    assert!(
        decided["reviewer"]
            .as_str()
            .is_some_and(|it| it.starts_with("bob@example.com ("))
    );
    assert!(
        told.iter().any(|it| it["event"] == "approval_refused"),
        "Ann's"
    );

    let hold = world.wait_for_hold("staging-db");
    let no = "{\"verdict\": \"deny\", \"comment\": \"not today\"}";
    assert_eq!(says(&link_of(&news, &hold, 0), &bob, no).0, 200);
    assert!(other.finish().stdout.contains("not today"));
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/staging-db")), 0);
}

/// As a chat shows it: the message has no signature and no secret, and its link is answered by who signs in, not by who has it.
#[test]
fn a_chat_message_carries_a_link_that_is_answered_once() {
    let (files, hooks, port) = (Files::new(), free_port(), free_port());
    let slack = format!(
        "\n[[notification]]\nkind = \"slack\"\nurl = \"https://127.0.0.1:{hooks}/services/T/B/x\"\nca_file = \"{}\"\nevents = [\"held\", \"decided\"]\n",
        files.shown("ca.pem")
    );
    let _receiver = Receiver::start(&files, hooks, &["200"]);
    let world = world(format!("{PEOPLE}{}{slack}", files.answers(port)), "");
    let agent = world.sandbox();
    let held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("prod-db");
    let message = within("the message", || {
        lines(&files.path("journal")).into_iter().next()
    });
    assert_eq!(message["path"], "/services/T/B/x");
    let body = &message["body"];
    let text = body["text"].as_str().expect("text");
    assert!(text.contains("`sql.instances.delete`"), "{text}");
    let blocks = body["blocks"].as_array().expect("blocks");
    let sections = blocks.iter().filter_map(|it| it["text"]["text"].as_str());
    let link = sections
        .filter_map(|it| it.strip_prefix('<')?.split_once("|Answer>"))
        .map(|(link, _)| link.replace("&amp;", "&"))
        .next()
        .expect("a link");
    assert!(
        link.starts_with(&format!("https://127.0.0.1:{port}/")),
        "{link}"
    );

    let answer = |token: &str| curl(&files, &["-H", &bearer(token), "-d", YES, &link]);
    let person = |groups: &[&str]| {
        let claims =
            json!({"aud": "reviewers", "sub": "bob", "email": "bob@example.com", "groups": groups});
        world.issuer.token_with(claims)
    };
    assert_eq!(curl(&files, &["-d", YES, &link]).0, 401);
    assert_eq!(answer(&person(&["dev"])).0, 403);
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 0);
    let (status, said) = answer(&person(&["sre"]));
    assert_eq!(status, 200, "{said}");
    let _ = held.finish().succeeded();
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 1);
    assert_ne!(answer(&person(&["sre"])).0, 200);
    // What became of it is told in the chat, too.
    let decided = within("what became of it", || {
        let told = lines(&files.path("journal"));
        told.into_iter()
            .find(|it| it["body"]["text"].to_string().contains("approved by"))
    });
    assert!(
        decided["body"]["text"].to_string().contains(hold.id()),
        "{decided}"
    );
}

#[test]
fn two_people_take_two_links_also_over_a_restart() {
    let (files, port) = (Files::new(), free_port());
    let (command, news) = files.command();
    let policy = "@id(\"two\")\n@hold(\"reviewers\")\n@min_approvals(\"2\")\n\
                  forbid(principal, action == Action::\"sql.instances.delete\", resource);\n";
    let configuration = format!("{PEOPLE}{}{command}", files.answers(port));
    let world = world(configuration, policy);
    let agent = world.sandbox();
    let _ = agent.run(&["curl", "-sS", "-m", "2", "-X", "DELETE", &url("prod-db")]);
    let hold = world.wait_for_hold("prod-db");
    let first = link_of(&news, &hold, 0);
    world.kill_daemon().expect("it ran");
    world.start_daemon().expect("it starts again");
    let person = |name: &str| {
        let claims = json!({"aud": "reviewers", "sub": name, "groups": ["sre"]});
        world.issuer.token_with(claims)
    };
    let says = |url: &str, token: &str| curl(&files, &["-H", &bearer(token), "-d", YES, url]);
    let (status, text) = says(&first, &person("bob"));
    assert!(status == 200 && text.contains("pending"), "{status} {text}");
    assert_eq!(says(&first, &person("cem")).0, 410, "used up");
    let second = link_of(&news, &hold, 1);
    assert_ne!(first, second);
    let (status, text) = says(&second, &person("bob"));
    assert!(
        status == 409 && text.contains("already_approved"),
        "{status} {text}"
    );
    let (status, text) = says(&second, &person("cem"));
    assert!(
        status == 200 && text.contains("approved"),
        "{status} {text}"
    );
    let ran = delete(&agent, "prod-db").finish().succeeded();
    assert!(ran.stdout.ends_with("\n200"), "{ran}");
}

#[test]
fn a_reviewer_signs_in_with_a_browser_and_no_other_site_answers_for_them() {
    let (files, port, issuer) = (Files::new(), free_port(), MockServer::start());
    let (command, news) = files.command();
    let people = format!(
        "\n[[reviewer_issuer]]\nurl = \"{0}\"\naudience = \"bots\"\nclient_id = \"holdpoint-web\"\n\
         \n[[reviewers.reviewers.oidc]]\nissuer = \"{0}\"\nsubjects = [\"{MOCK_SUBJECT}\"]\n",
        issuer.url
    );
    let world = world(format!("{people}{}{command}", files.answers(port)), "");
    let agent = world.sandbox();
    let held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("prod-db");
    let link = link_of(&news, &hold, 0);
    let origin = format!("https://127.0.0.1:{port}");
    let path = link.strip_prefix(&origin).expect("ours").to_owned();
    let (_, page) = curl(&files, &[&link]);
    assert!(page.contains(&format!("/sign-in/0{path}")), "{page}");

    let jar = files.shown("cookies");
    let browse = |args: &[&str]| {
        let mut all = vec!["-b", jar.as_str(), "-c", jar.as_str()];
        all.extend(args);
        curl(&files, &all)
    };
    // An answer that another browser was to get does not count here.
    let (_, location) = curl(
        &files,
        &[
            "-o",
            "/dev/null",
            "-w",
            "%{redirect_url}\n",
            &format!("{origin}/sign-in/0{path}"),
        ],
    );
    let location = location.trim();
    assert!(
        location.contains("code_challenge_method=S256") && location.contains("nonce="),
        "{location}"
    );
    let (_, back) = curl(
        &files,
        &["-o", "/dev/null", "-w", "%{redirect_url}\n", location],
    );
    let (status, text) = browse(&[back.trim()]);
    assert!(
        status == 400 && text.contains("not begin in this browser"),
        "{status} {text}"
    );

    let (status, page) = browse(&["-L", &format!("{origin}/sign-in/0{path}")]);
    assert_eq!(status, 200, "{page}");
    for part in [
        "prod-db",
        "sql.instances.delete",
        MOCK_SUBJECT,
        "<form method=\"post\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let token = page.split("name=\"form_token\" value=\"").nth(1);
    let token = token.and_then(|it| it.split('"').next()).expect("a token");
    let post = |origin: &str, token: &str| {
        let form = format!("form_token={token}&verdict=approve&comment=fine");
        browse(&["-H", &format!("Origin: {origin}"), "-d", &form, &link])
    };
    assert_eq!(post(&origin, "").0, 403);
    assert_eq!(post("https://evil.example", token).0, 403);
    assert_eq!(post("null", token).0, 403);
    assert_eq!(world.count("DELETE", &format!("{DATABASE}/prod-db")), 0);
    let (status, text) = post(&origin, token);
    assert!(
        status == 200 && text.contains("Thank you"),
        "{status} {text}"
    );
    let _ = held.finish().succeeded();
    let told = events(&world, hold.session().expect("one")).expect("recorded");
    let decided = told
        .iter()
        .find(|it| it["event"] == "approval_decided")
        .expect("recorded");
    assert_eq!(decided["channel"], "browser");
    // The log has neither codes nor tokens.
    let log = world.daemon_log();
    assert!(!log.contains(token) && !log.contains("code="), "{log}");
}

#[test]
fn a_slow_or_loud_client_keeps_no_reviewer_out() {
    let (files, port) = (Files::new(), free_port());
    let (command, news) = files.command();
    let world = world(format!("{PEOPLE}{}{command}", files.answers(port)), "");
    let agent = world.sandbox();
    let _held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("prod-db");
    let link = link_of(&news, &hold, 0);
    let mut silent: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).expect("connects"))
        .collect();
    for stream in &mut silent {
        let _ = stream.write_all(b"\x16\x03");
    }
    // Those that say nothing are let go after five seconds.
    within("an answer", || {
        (curl(&files, &[&link]).0 == 200).then_some(())
    });
    let answered = (0..150).filter(|_| curl(&files, &[&link]).0 == 200).count();
    assert!(
        answered < 130,
        "one address asked {answered} times within a minute"
    );
    assert_eq!(world.wait_for_hold("prod-db").id(), hold.id());
}

#[test]
fn who_is_logged_in_reads_of_it_unless_they_do_not_want_to() {
    let world = world("\n[[notification]]\nkind = \"terminals\"\n".to_owned(), "");
    let wants = Terminal::start("mesg y; sleep 100", (120, 30), &[]);
    let not = Terminal::start("mesg n; sleep 100", (120, 30), &[]);
    // The agent's own terminals are of no use: it may not answer.
    sleep(Duration::from_secs(1));
    let agent = world.sandbox();
    let _held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("prod-db");
    let screen = wants.wait_for(&["waits for an answer", "prod-db", "holdpoint review"]);
    assert!(screen.contains(hold.id()), "{screen}");
    assert!(!not.screen().contains("waits for"), "{}", not.screen());
    assert!(told(&world, "terminals", "sent") >= 1);
}

#[test]
fn a_command_that_hangs_is_killed_with_all_it_started() {
    let files = Files::new();
    let trace = files.open("trace");
    // Whoever it is, what it has, and a child that leaves its process group.
    let script = format!(
        "id -u > {0}; env >> {0}; setsid sleep 98765 & sleep 98765",
        trace.display()
    );
    let configuration = format!(
        "\n[[notification]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nuser = \"nobody\"\nseconds = 2\n"
    );
    let world = world(configuration, "");
    let agent = world.sandbox();
    let held = delete(&agent, "prod-db");
    let hold = world.wait_for_hold("prod-db");
    within("it runs", || (sleepers() >= 2).then_some(()));
    within("counted", || {
        (told(&world, "command", "failed") == 1).then_some(())
    });
    assert_eq!(sleepers(), 0, "something of it is left");
    let trace = fs::read_to_string(trace).expect("written");
    assert!(trace.starts_with("65534\n"), "{trace}");
    assert!(
        !trace.contains("HOLDPOINT") && !trace.contains("HOME"),
        "{trace}"
    );
    assert!(
        world.daemon_log().contains("its time was up"),
        "{}",
        world.daemon_log()
    );
    world.approve(hold.id()).expect("root may approve");
    let _ = held.finish().succeeded();
}

fn sleepers() -> usize {
    let processes = fs::read_dir("/proc").expect("there is one").flatten();
    let commands = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    commands.filter(|it| it == b"sleep\x0098765\0").count()
}
