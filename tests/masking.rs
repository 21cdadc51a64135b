//! What is secret reaches neither the agent, where policy says so, nor the disk, nor a reviewer; what Holdpoint injected reaches nobody.

use std::{fmt::Write as _, fs, io::Write as _, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use holdpoint_tests::{
    host,
    sandbox::Ran,
    stand_in::Answer,
    world::{Settings, World},
};

const API_KEY: &str = "AIzaSyA-1234567890abcdefghijklmnopqrstu";
const GITHUB: &str = "ghp_abcdefghijklmnopqrstuvwxyz0123456789";
const PASSWORD: &str = "correct-horse-battery";
const PLANTED: [&str; 3] = [API_KEY, GITHUB, PASSWORD];
const INSTANCES: &str = "/sql/v1beta4/projects/lab-project/instances";

const MASKED: &str = r#"
@id("masked") @mask("secrets") @record("bodies")
permit(principal, action in Action::"sql.*", resource);
"#;

fn world(extra_policies: &str) -> World {
    let settings = Settings {
        extra_policies: extra_policies.to_owned(),
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

fn planted() -> String {
    format!(
        r#"{{"name":"db","settings":{{"tier":"db-f1","note":"use {API_KEY}"}},"items":[{{"token":"{GITHUB}"}}],"rootPassword":"{PASSWORD}","padding":"{}"}}"#,
        "x".repeat(3000)
    )
}

fn encoded(coding: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::best());
            encoder.write_all(content).expect("memory");
            encoder.finish().expect("memory");
        }
        "deflate" => {
            let mut encoder =
                flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::fast());
            encoder.write_all(content).expect("memory");
            encoder.finish().expect("memory");
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 3, 20);
            encoder.write_all(content).expect("memory");
        }
        "zstd" => out = zstd::bulk::compress(content, 1).expect("memory"),
        _ => out = content.to_vec(),
    }
    out
}

fn json(coding: &str, content: &[u8]) -> Answer {
    let answer = Answer::of(
        "application/json; charset=UTF-8",
        encoded(coding, content).into(),
    );
    match coding {
        "identity" => answer,
        coding => answer.with_header("content-encoding", coding),
    }
}

fn url(name: &str) -> String {
    format!("https://sqladmin.googleapis.com{INSTANCES}/{name}")
}

fn curl(world: &World, arguments: &[&str]) -> Ran {
    let command = [
        &["curl", "-sS", "-m", "30", "-w", "\n%{http_code}"],
        arguments,
    ]
    .concat();
    world.sandbox().run(&command)
}

/// Fails when one of these is in a file below `dir`.
fn assert_nowhere(secrets: &[&str], dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            assert_nowhere(secrets, &path);
        } else if kind.is_file() {
            let content = fs::read(&path).expect("root reads everything");
            for secret in secrets {
                let found = content
                    .windows(secret.len())
                    .any(|it| it == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
}

#[test]
fn planted_secrets_come_through_in_no_coding_framing_or_pieces() {
    let world = world(MASKED);
    let mut script = String::new();
    let mut names = Vec::new();
    for coding in ["identity", "gzip", "deflate", "br", "zstd"] {
        for (pieces, length) in [("whole", usize::MAX), ("bytes", 1), ("some", 37)] {
            let answer = json(coding, planted().as_bytes());
            let answer = match length {
                usize::MAX => answer
                    .with_header("etag", "\"strong\"")
                    .with_header("x-goog-hash", "md5=AA=="),
                length => answer.in_pieces(length, Duration::ZERO),
            };
            let name = format!("{coding}-{pieces}");
            let path = format!("{INSTANCES}/{name}");
            world
                .google
                .script()
                .answer_by("GET", &path, move |_| answer.clone());
            for version in ["1.1", "2"] {
                let file = format!("{name}-{version}");
                let url = url(&name);
                writeln!(script, "curl -sS -m 30 --fail --compressed --http{version} -D {file}.head -o {file} {url} || exit 1")
                    .expect("a string takes it");
                names.push(file);
            }
        }
    }
    let agent = world.sandbox().limit(Duration::from_secs(120));
    let home = agent.home().to_owned();
    let script = format!("cd {} && {script}", home.display());
    let _ = agent.run(&["sh", "-c", &script]).succeeded();
    for name in names {
        let coding = name.split('-').next().unwrap_or_default();
        let mut body = fs::read(home.join(&name)).expect("curl wrote it");
        // This curl knows no zstd.
        if body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            body = zstd::stream::decode_all(&body[..]).expect("well formed");
        }
        let text = String::from_utf8(body).expect("JSON is UTF-8");
        for secret in PLANTED {
            assert!(!text.contains(secret), "{name}: {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&text).expect("it is still JSON");
        assert_eq!(json["settings"]["tier"], "db-f1", "{name}");
        assert_eq!(json["padding"].as_str().map(str::len), Some(3000), "{name}");
        assert!(text.contains("[masked:"), "{name}: {text}");
        let head = fs::read_to_string(home.join(format!("{name}.head"))).expect("curl wrote it");
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("x-goog-hash"), "{name}: {head}");
        assert!(!head.contains("etag: \"strong\""), "{name}: {head}");
        assert!(
            coding == "identity" || head.contains(&format!("content-encoding: {coding}")),
            "{name}: {head}"
        );
    }
    assert_nowhere(&PLANTED, &world.dir().join("state"));
    world.stop_daemon().expect("it ends");
    assert_nowhere(&PLANTED, &world.dir().join("state"));
    world.start_daemon().expect("it starts again");
    assert_nowhere(&PLANTED, &world.dir().join("state"));
}

#[test]
fn the_injected_token_does_not_come_back_whatever_policy_says() {
    let world = world("");
    let echo = |call: &holdpoint_tests::stand_in::Call| {
        let header = call.header("authorization").unwrap_or_default();
        let token = header.trim_start_matches("Bearer ");
        let text = format!(
            r#"{{"header":"{header}","coded":"{}"}}"#,
            BASE64_STANDARD.encode(header)
        );
        let answer = match call.parameter("coding") {
            Some("") | None => json("identity", text.as_bytes()),
            Some("gzip") => json("gzip", text.as_bytes()),
            _ => json("br", text.as_bytes()),
        };
        answer
            .with_header("x-echo", token)
            .in_pieces(5, Duration::ZERO)
    };
    world
        .google
        .script()
        .answer_by("GET", &format!("{INSTANCES}/echo"), echo);
    let token = world.google.token().to_owned();
    let inside = BASE64_STANDARD.encode(format!("Bearer {token}"));
    for query in ["", "?coding=gzip", "?coding=br"] {
        let ran = curl(
            &world,
            &["-i", "--compressed", &format!("{}{query}", url("echo"))],
        )
        .succeeded();
        assert!(ran.stdout.ends_with("\n200"), "{query}: {ran}");
        assert!(ran.stdout.contains("\"header\""), "{query}: {ran}");
        assert!(!ran.stdout.contains(&token), "{query}: {ran}");
        assert!(
            !ran.stdout.contains(&inside[10..inside.len() - 4]),
            "{query}: {ran}"
        );
    }
    assert_nowhere(&[&token], &world.dir().join("state"));
}

#[test]
fn what_cannot_be_read_is_withheld_and_says_so() {
    let world = world(MASKED);
    let say = |name: &str, answer: Answer| {
        let path = format!("{INSTANCES}/{name}");
        world
            .google
            .script()
            .answer_by("GET", &path, move |_| answer.clone());
    };
    let broken = format!(r#"{{"name":"db","token":"{GITHUB}"#);
    say("broken", json("identity", broken.as_bytes()));
    say(
        "unknown",
        json("identity", planted().as_bytes()).with_header("content-encoding", "rot13"),
    );
    say(
        "opaque",
        Answer::of("application/octet-stream", planted().into()),
    );
    say("bomb", json("gzip", &vec![b' '; 64 << 20]));
    let mut part =
        json("identity", planted().as_bytes()).with_header("content-range", "bytes 0-9/99");
    part.status = http::StatusCode::PARTIAL_CONTENT;
    say("part", part);
    for name in ["broken", "unknown", "opaque", "bomb", "part"] {
        for version in ["--http1.1", "--http2"] {
            let ran = curl(&world, &[version, &url(name)]).succeeded();
            assert!(ran.stdout.ends_with("\n403"), "{name} {version}: {ran}");
            assert!(
                ran.stdout.contains("HOLDPOINT_ANSWER_WITHHELD"),
                "{name}: {ran}"
            );
            assert!(!ran.stdout.contains(GITHUB), "{name}: {ran}");
        }
    }
    // Too late for an error: the client must not take what it got for all there is.
    let long = format!(r#"{{"a":"{}","token":"{GITHUB}","#, "x".repeat(300_000));
    say(
        "late",
        json("identity", long.as_bytes()).in_pieces(20_000, Duration::from_millis(10)),
    );
    for version in ["--http1.1", "--http2"] {
        let ran = curl(&world, &[version, &url("late")]).failed();
        assert!(!ran.stdout.contains(GITHUB), "{version}");
    }
    let events = world.daemon_log();
    assert!(events.contains("an answer was withheld"), "{events}");
    host::require_program("gcloud", "google-cloud-cli").unwrap_or_else(|error| panic!("{error}"));
    let broken = json("identity", broken.as_bytes());
    let script = world.google.script();
    script.answer_by("GET", INSTANCES, move |_| broken.clone());
    let ran = world
        .sandbox()
        .run(&["gcloud", "sql", "instances", "list"])
        .failed();
    assert!(ran.says("Holdpoint withheld the answer"), "{ran}");
}

#[test]
fn events_flow_as_they_come() {
    let world = world(MASKED);
    let text = format!("data: {{\"key\":\"{API_KEY}\"}}\n\n");
    let pieces = (0..4).map(|_| (Duration::from_millis(500), Bytes::from(text.clone())));
    let mut answer = Answer::of("text/event-stream", Bytes::new());
    answer.rest = pieces.collect();
    world
        .google
        .script()
        .answer_by("GET", &format!("{INSTANCES}/events"), move |_| {
            answer.clone()
        });
    for version in ["--http1.1", "--http2"] {
        let script = format!(
            "curl -sSN -m 30 {version} {} | while read -r line; do [ -n \"$line\" ] && echo \"$(date +%s%N) $line\"; done; true",
            url("events")
        );
        let ran = world.sandbox().run(&["sh", "-c", &script]).succeeded();
        let times: Vec<u64> = ran
            .stdout
            .lines()
            .filter_map(|line| line.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(times.len(), 4, "{ran}");
        assert!(
            !ran.stdout.contains(API_KEY) && ran.stdout.contains("[masked:"),
            "{ran}"
        );
        // They were sent over 1.5 s.
        assert!(
            times[3] - times[0] > 1_000_000_000,
            "they came all at once: {ran}"
        );
    }
}

#[test]
fn media_is_passed_or_refused_and_never_altered() {
    let object = format!("password = \"{PASSWORD}\"\nkey {API_KEY}\n");
    let download = |world: &World| {
        let url = "https://storage.googleapis.com/storage/v1/b/prod-bucket/o/config.txt?alt=media";
        curl(world, &["-H", "accept-encoding: gzip", url]).succeeded()
    };
    let world_with = |policies: &str| {
        let world = world(policies);
        let media = object.clone();
        let path = "/storage/v1/b/prod-bucket/o/config.txt";
        world.google.script().answer_by("GET", path, move |_| {
            Answer::of("text/plain", media.clone().into())
                .with_header("x-goog-hash", "crc32c=AAAAAA==")
        });
        world
    };
    let passed = world_with("");
    assert_eq!(download(&passed).stdout, format!("{object}\n200"));
    let arrival = passed.arrivals().pop().expect("it arrived");
    let sent = |name: &str| {
        arrival
            .headers
            .iter()
            .any(|(known, value)| known == name && value == "gzip")
    };
    assert!(
        sent("accept-encoding"),
        "what is stored may be compressed: {arrival:?}"
    );
    let masked = r#"@id("media") @mask("secrets") permit(principal, action in Action::"storage.*", resource);"#;
    let refused = world_with(masked);
    let ran = download(&refused);
    assert!(
        ran.stdout.ends_with("\n403") && ran.stdout.contains("never altered"),
        "{ran}"
    );
    assert!(refused.arrivals().is_empty(), "it was asked all the same");
    let except = format!(
        "{masked}\n@id(\"as-is\") @mask(\"none\") permit(principal, action == Action::\"storage.objects.get\", resource);"
    );
    assert_eq!(
        download(&world_with(&except)).stdout,
        format!("{object}\n200")
    );
}

#[test]
fn a_masked_value_is_not_written_back() {
    let world = world("");
    let target = url("prod-db");
    let token = "[masked:secret-field]";
    let coded = BASE64_STANDARD.encode(format!("x {token}"));
    let bodies = [
        format!(r#"{{"settings":{{"note":"{token}"}}}}"#),
        r#"{"settings":{"note":"\u005bmasked:secret-field]"}}"#.to_owned(),
        format!(r#"{{"data":"{coded}"}}"#),
    ];
    let json = ["-H", "content-type: application/json"];
    for body in &bodies {
        let ran = curl(
            &world,
            &[&["-X", "PATCH", "--data", body][..], &json, &[&target]].concat(),
        )
        .succeeded();
        assert!(ran.stdout.ends_with("\n403"), "{body}: {ran}");
        assert!(ran.stdout.contains("mask token"), "{body}: {ran}");
    }
    let agent = world.sandbox();
    let packed = agent.file("packed", encoded("gzip", bodies[0].as_bytes()));
    let packed = format!("@{}", packed.display());
    let gzip = ["-H", "content-encoding: gzip", "--data-binary", &packed];
    let command = [
        &["curl", "-sS", "-m", "30", "-X", "PATCH"],
        &gzip[..],
        &json,
        &[&target],
    ]
    .concat();
    let ran = agent.run(&command).succeeded();
    assert!(ran.stdout.contains("mask token"), "{ran}");
    let filter = format!("{}?filter=%5Bmasked%3Ajwt%5D", url("prod-db"));
    assert!(curl(&world, &[&filter]).stdout.contains("mask token"));
    assert!(world.arrivals().is_empty(), "{:?}", world.arrivals());

    // Beyond what is read before it is sent.
    let long = [
        vec![b'x'; 5 << 20],
        token.as_bytes().to_vec(),
        vec![b'x'; 1 << 20],
    ]
    .concat();
    let long = format!("@{}", agent.file("long", long).display());
    let upload = "https://storage.googleapis.com/upload/storage/v1/b/prod-bucket/o?uploadType=media&name=long";
    let octets = [
        "-H",
        "content-type: application/octet-stream",
        "--data-binary",
        &long,
    ];
    let command = [&["curl", "-sS", "-m", "30"], &octets[..], &[upload]].concat();
    let ran = agent.run(&command).succeeded();
    assert!(ran.stdout.contains("mask token"), "{ran}");
    assert!(
        world.arrivals().iter().all(|it| !it.complete),
        "{:?}",
        world.arrivals()
    );
}

#[test]
fn a_secret_on_its_way_out_waits_for_people_who_do_not_see_it() {
    let world = world("");
    let entry = |text: &str| {
        format!(
            r#"{{"entries":[{{"logName":"projects/lab-project/logs/x","textPayload":"{text}"}}]}}"#
        )
    };
    let url = "https://logging.googleapis.com/v2/entries:write";
    let path = "/v2/entries:write";
    world.google.script().say("POST", path, 200, "{}");
    let json = "content-type: application/json";
    let ran = curl(&world, &["-H", json, "--data", &entry("all is well"), url]).succeeded();
    assert!(ran.stdout.ends_with("{}\n200"), "{ran}");
    let secret = entry(&format!("the key is {API_KEY}"));
    let agent = world.sandbox();
    let running = agent.start(&[
        "curl", "-sS", "-m", "60", "-H", json, "--data", &secret, url,
    ]);
    let hold = world.wait_for_hold("logging.entries.write");
    let shown = world
        .holdpoint_json(&["approvals", "show", hold.id()])
        .expect("it is shown");
    let shown = shown.to_string();
    assert!(shown.contains("[masked:google-api-key]"), "{shown}");
    assert!(!shown.contains(API_KEY), "{shown}");
    assert_nowhere(&[API_KEY], &world.dir().join("state"));
    world.approve(hold.id()).expect("root may approve");
    let _ = running.finish().succeeded();
    let sent = world.arrivals().pop().expect("it arrived");
    assert_eq!(
        sent.body_len,
        secret.len() as u64,
        "what was approved is what is sent"
    );
    world.stop_daemon().expect("it ends");
    assert_nowhere(&[API_KEY], &world.dir().join("state"));
}

const MINT: &str = "/v1/projects/-/serviceAccounts/a@b.iam.gserviceaccount.com:generateAccessToken";

/// What an agent gets that mints an access token, which a person has approved.
fn minted(world: &World) -> String {
    let url = format!("https://iamcredentials.googleapis.com{MINT}");
    let agent = world.sandbox();
    let json = ["-H", "content-type: application/json"];
    let data = ["--data", r#"{"scope":["x"]}"#, &url];
    let command = [&["curl", "-sS", "-m", "60"], &json[..], &data[..]].concat();
    let running = agent.start(&command);
    let hold = world.wait_for_hold("iamcredentials.projects.serviceAccounts.generateAccessToken");
    world.approve(hold.id()).expect("root may approve");
    running.finish().succeeded().stdout
}

#[test]
fn minted_credentials_are_masked_unless_policy_shows_them() {
    let by_default = world("");
    let text = minted(&by_default);
    assert!(
        text.contains("expireTime") && !text.contains("ya29.impersonated"),
        "{text}"
    );
    let shows = r#"@id("minters") @mask("none") permit(principal, action in Action::"iamcredentials.*", resource);"#;
    let shown = world(shows);
    let text = minted(&shown);
    assert!(text.contains("ya29.impersonated"), "{text}");
    for world in [by_default, shown] {
        assert_nowhere(&["ya29.impersonated"], &world.dir().join("state"));
    }
}

#[test]
fn minted_credentials_in_a_form_without_names_are_withheld() {
    const MINTED: &str = "no-form-that-is-known-3141";
    let world = world("");
    for content_type in ["text/javascript", "application/x-protobuf"] {
        let answer = format!(r#"f({{"accessToken":"{MINTED}"}})"#);
        let answer = Answer::of(content_type, answer.into());
        let script = world.google.script();
        script.answer_by("POST", MINT, move |_| answer.clone());
        let text = minted(&world);
        assert!(text.contains("HOLDPOINT_ANSWER_WITHHELD"), "{text}");
        assert!(!text.contains(MINTED), "{text}");
    }
    assert_nowhere(&[MINTED], &world.dir().join("state"));
}

#[test]
fn parts_of_a_batch_are_masked_each_by_its_own_terms() {
    let world = world(
        r#"@id("instances") @mask("secrets") permit(principal, action == Action::"compute.instances.get", resource);"#,
    );
    let part = |id: &str, secret: &str| {
        let body = format!(r#"{{"note":"{secret}"}}"#);
        format!(
            "--b\r\nContent-Type: application/http\r\nContent-ID: <response-{id}>\r\n\r\nHTTP/1.1 200 OK\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\r\n",
            body.len()
        )
    };
    // The other way round than they were asked for.
    let text = format!("{}{}--b--\r\n", part("two", GITHUB), part("one", API_KEY));
    let answer = Answer::of("multipart/mixed; boundary=b", text.into());
    world
        .google
        .script()
        .answer_by("POST", "/batch/compute/v1", move |_| answer.clone());
    let ask = |id: &str, path: &str| {
        format!(
            "--q\r\nContent-Type: application/http\r\nContent-ID: <{id}>\r\n\r\n\
             GET /compute/v1/projects/lab-project/{path} HTTP/1.1\r\n\r\n"
        )
    };
    let asked = [
        ask("one", "zones/us-central1-a/instances/vm1"),
        ask("two", "global/firewalls/allow-ssh"),
        "--q--\r\n".to_owned(),
    ];
    let agent = world.sandbox();
    let asked = format!("@{}", agent.file("batch", asked.concat()).display());
    let ran = agent
        .run(&[
            "curl",
            "-sS",
            "-m",
            "30",
            "-H",
            "content-type: multipart/mixed; boundary=q",
            "--data-binary",
            &asked,
            "https://compute.googleapis.com/batch/compute/v1",
        ])
        .succeeded();
    assert!(!ran.stdout.contains(API_KEY), "{ran}");
    assert!(ran.stdout.contains("[masked:google-api-key]"), "{ran}");
    assert!(
        ran.stdout.contains(GITHUB),
        "its terms say nothing of masking: {ran}"
    );
}

/// One protobuf message with one string, behind gRPC's prefix.
fn grpc_message(text: &str, compressed: bool) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("it is short");
    let plain = [&[0x0a, length], text.as_bytes()].concat();
    let message = if compressed {
        encoded("gzip", &plain)
    } else {
        plain
    };
    let length = u32::try_from(message.len()).expect("it is short");
    [&[u8::from(compressed)], &length.to_be_bytes()[..], &message].concat()
}

#[test]
fn grpc_messages_are_masked_one_by_one() {
    let world = world(
        r#"@id("grpc") @mask("secrets") permit(principal, action == Action::"google.unknown", resource);"#,
    );
    let path = "/google.pubsub.v1.Publisher/GetTopic";
    let url = format!("https://pubsub.googleapis.com{path}");
    for (compressed, cut) in [(false, 0), (true, 0), (true, 3)] {
        let messages = [
            grpc_message("harmless", compressed),
            grpc_message(API_KEY, compressed),
        ]
        .concat();
        let messages = messages[..messages.len() - cut].to_vec();
        let mut answer = Answer::of("application/grpc", messages.into())
            .with_header("grpc-encoding", "gzip")
            .in_pieces(3, Duration::ZERO);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        answer.trailers = Some(trailers);
        world
            .google
            .script()
            .answer_by("POST", path, move |_| answer.clone());
        let agent = world.sandbox();
        let asked = format!(
            "@{}",
            agent.file("asked", grpc_message("topic", false)).display()
        );
        let (out, head) = (agent.home().join("out"), agent.home().join("head"));
        let ran = agent.run(&[
            "curl",
            "-sS",
            "-m",
            "30",
            "--http2",
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
            "--data-binary",
            &asked,
            "-o",
            out.to_str().expect("text"),
            "-D",
            head.to_str().expect("text"),
            &url,
        ]);
        let ran = ran.succeeded();
        let out = fs::read(out).expect("curl wrote it");
        let head = fs::read_to_string(head).expect("curl wrote it");
        let text = String::from_utf8_lossy(&out);
        assert!(!text.contains(API_KEY), "{ran}");
        assert!(text.contains("harmless"), "{text} {head}");
        if cut == 0 {
            assert!(text.contains("[masked:google-api-key]"), "{text}");
            assert!(head.contains("grpc-status: 0"), "{head}");
        } else {
            assert!(
                head.contains("grpc-status: 7") && head.contains("withheld"),
                "{head}"
            );
        }
    }
}

#[test]
fn a_set_or_a_kind_that_is_not_there_stops_the_load() {
    let world = world("");
    let file = world.dir().join("policies/zz.cedar");
    for (policy, complaint) in [
        (
            r#"@id("x") @mask("secret") permit(principal, action, resource);"#,
            "did you mean \"secrets\"?",
        ),
        (
            r#"@id("x") forbid(principal, action, resource) when { context.contains.contains("api-key") };"#,
            "nothing detects that",
        ),
    ] {
        fs::write(&file, policy).expect("a file");
        world.stop_daemon().expect("it ends");
        let error = world.start_daemon().expect_err("it does not start");
        let said = format!("{error:#}\n{}", world.daemon_log());
        assert!(
            said.contains("zz.cedar:1") && said.contains(complaint),
            "{said}"
        );
        fs::remove_file(&file).expect("it is there");
        world.start_daemon().expect("it starts");
    }
}
