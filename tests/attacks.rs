//! What an agent that knows Holdpoint's source may try from inside a session.

use std::time::Duration;

use holdpoint_tests::world::World;

const SQL: &str = "sqladmin.googleapis.com";
const STORAGE: &str = "storage.googleapis.com";
const COMPUTE: &str = "compute.googleapis.com";
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";
const DATABASE: &str = "/sql/v1beta4/projects/lab-project/instances/staging-db";
const OPEN_FIREWALL: &str =
    r#"{"name":"x","allowed":[{"IPProtocol":"tcp"}],"sourceRanges":["0.0.0.0/0"]}"#;

/// One request, byte for byte.
struct Attempt {
    name: &'static str,
    host: &'static str,
    request: String,
}

fn attempt(
    name: &'static str,
    host: &'static str,
    line: &str,
    headers: &[&str],
    body: &str,
) -> Attempt {
    let mut request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers {
        request += header;
        request += "\r\n";
    }
    if !headers.iter().any(|header| header.contains("chunked")) {
        request += &format!("Content-Length: {}\r\n", body.chars().count());
    }
    request += "\r\n";
    request += body;
    Attempt {
        name,
        host,
        request,
    }
}

/// Sends all of it in one session; what came back, in order.
fn send(world: &World, attempts: &[Attempt]) -> Vec<String> {
    let cases: Vec<_> = attempts.iter().map(|it| (it.host, &it.request)).collect();
    let agent = world.sandbox();
    let file = agent.file("cases.json", serde_json::to_vec(&cases).expect("JSON"));
    let ran = agent
        .python("raw.py", &[file.to_str().expect("a plain path")])
        .succeeded();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

/// None of it may reach the stand-in.
fn assert_stopped(world: &World, attempts: &[Attempt]) {
    let answers = send(world, attempts);
    for (attempt, answer) in attempts.iter().zip(answers) {
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(
            matches!(status, "400" | "403" | "431"),
            "{}: {answer}",
            attempt.name
        );
    }
    let arrived = world.arrivals();
    assert!(arrived.is_empty(), "{arrived:#?}");
}

/// The daemon's resident memory, in MiB.
fn memory(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon_pid()));
    let status = status.expect("the daemon is there");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    resident.expect("a number") / 1024
}

#[test]
fn a_header_that_decides_is_not_taken_away_after_the_decision() {
    let world = World::start();
    let form = "Content-Type: application/x-www-form-urlencoded";
    let get = "X-HTTP-Method-Override: GET";
    let attempts = [
        attempt(
            "a list for policy, an insert for Google",
            COMPUTE,
            &format!("POST {FIREWALLS}"),
            &[
                get,
                form,
                "Connection: X-HTTP-Method-Override, Content-Type",
            ],
            OPEN_FIREWALL,
        ),
        attempt(
            "the same in two lines",
            COMPUTE,
            &format!("POST {FIREWALLS}"),
            &[
                get,
                form,
                "Connection: close, x-http-method-override",
                "connection:\tCONTENT-TYPE",
            ],
            OPEN_FIREWALL,
        ),
    ];
    assert_stopped(&world, &attempts);
}

/// What is sent is what was judged, also to a service that does not know the override.
#[test]
fn an_overridden_verb_is_sent_as_itself() {
    let world = World::start();
    let verb = |line: &str, headers: &[&str], body: &str| {
        let attempts = [attempt("an override", SQL, line, headers, body)];
        let answer = send(&world, &attempts).remove(0);
        let arrived = world.arrivals();
        let last = arrived.last().unwrap_or_else(|| panic!("{answer}"));
        let header = |it: &&(String, String)| it.0 == "x-http-method-override";
        (
            last.method.clone(),
            last.headers.iter().any(|it| header(&it)),
        )
    };
    let list = "POST /sql/v1beta4/projects/lab-project/instances";
    let get = "X-HTTP-Method-Override: GET";
    assert_eq!(verb(list, &[get], ""), ("GET".to_owned(), false));
    let form = "Content-Type: application/x-www-form-urlencoded";
    let in_form = verb(list, &[get, form], "maxResults=5");
    assert_eq!(in_form, ("POST".to_owned(), true));
    let patch = verb(
        &format!("POST {DATABASE}"),
        &[
            "X-HTTP-Method-Override: PATCH",
            "Content-Type: application/json",
        ],
        "{}",
    );
    assert_eq!(patch, ("PATCH".to_owned(), false));
}

#[test]
fn a_process_that_calls_all_its_memory_its_arguments_does_not_fill_the_daemons() {
    let world = World::start();
    let before = memory(&world);
    let ran = world.sandbox().python("long_arguments.py", &[]).succeeded();
    assert!(ran.says("connected"), "{ran}");
    let grown = memory(&world) - before;
    assert!(grown < 100, "{grown} MiB more");
    world.assert_daemon_works("a long command line");
}

#[test]
fn bodies_that_never_end_take_bounded_memory() {
    let world = World::start();
    let before = memory(&world);
    let ran = world
        .sandbox()
        .limit(Duration::from_secs(200))
        .python("many_bodies.py", &[])
        .succeeded();
    let grown = memory(&world) - before;
    assert!(grown < 400, "{grown} MiB more: {ran}");
    world.assert_daemon_works("many bodies");
}

#[test]
fn what_can_be_read_in_two_ways_is_not_sent() {
    let world = World::start();
    let json = "Content-Type: application/json";
    let line = format!("DELETE {DATABASE}");
    let list = "GET /sql/v1beta4/projects/lab-project/instances";
    let firewall = format!("POST {FIREWALLS}");
    let sql = |name, line: &str, headers: &[&str]| attempt(name, SQL, line, headers, "");
    let mut attempts = vec![
        sql(
            "PUT as DELETE",
            &line.replace("DELETE", "PUT"),
            &["x-http-method-override: DELETE"],
        ),
        sql(
            "GET as DELETE",
            &line.replace("DELETE", "GET"),
            &["X-Http-Method-Override: DELETE"],
        ),
        sql(
            "two overrides",
            &line.replace("DELETE", "POST"),
            &[
                "X-HTTP-Method-Override: GET",
                "x-http-method-override: DELETE",
            ],
        ),
        sql(
            "another override",
            &line.replace("DELETE", "POST"),
            &["X-HTTP-Method: DELETE"],
        ),
        sql(
            "one with underscores",
            &line.replace("DELETE", "POST"),
            &["X_HTTP_METHOD_OVERRIDE: DELETE"],
        ),
        sql(
            "one in the query",
            &format!("{list}?$httpMethod=DELETE"),
            &[],
        ),
        sql("one in a form", &format!("{list}?_method=DELETE"), &[]),
        sql("a matrix parameter", &format!("{list};x=y"), &[]),
        sql("a NUL", &format!("{list}%00"), &[]),
        sql("an escaped climb", &format!("{list}/..%2f..%2fother"), &[]),
        sql(
            "a semicolon in the query",
            &format!("{list}?a=b;access_token=c"),
            &[],
        ),
        sql(
            "a token in alt",
            &format!("{list}?alt=json;access_token=c"),
            &[],
        ),
        sql("another host", list, &["Host: storage.googleapis.com"]),
        sql(
            "an obsolete fold",
            list,
            &["X-A: b", " X-HTTP-Method-Override: DELETE"],
        ),
        sql(
            "a space before the colon",
            list,
            &["X-HTTP-Method-Override : DELETE"],
        ),
        sql("an upgrade", list, &["Connection: upgrade", "Upgrade: h2c"]),
    ];
    let utf16: String = OPEN_FIREWALL.chars().flat_map(|it| [it, '\0']).collect();
    let twice = OPEN_FIREWALL.replace('}', r#","sourceRanges":["10.0.0.0/8"]}"#);
    let snake = OPEN_FIREWALL.replace("sourceRanges", "source_ranges");
    let escaped = OPEN_FIREWALL.replace("0.0.0.0", "\\u0030.0.0.0");
    for (name, headers, body) in [
        ("an open firewall", &[json][..], OPEN_FIREWALL),
        ("without a type", &[], OPEN_FIREWALL),
        (
            "as +json",
            &["Content-Type: application/vnd.x+json"],
            OPEN_FIREWALL,
        ),
        (
            "as text",
            &["Content-Type: text/plain; charset=us-ascii"],
            OPEN_FIREWALL,
        ),
        (
            "as a form",
            &["Content-Type: application/x-www-form-urlencoded"],
            OPEN_FIREWALL,
        ),
        (
            "as a file",
            &["Content-Type: multipart/form-data; boundary=b"],
            OPEN_FIREWALL,
        ),
        (
            "as protobuf",
            &["Content-Type: application/x-protobuf"],
            OPEN_FIREWALL,
        ),
        (
            "in another charset",
            &["Content-Type: application/json; charset=utf-7"],
            OPEN_FIREWALL,
        ),
        (
            "in UTF-16",
            &["Content-Type: application/json; charset=utf-16le"],
            &utf16,
        ),
        ("in UTF-16, unsaid", &[json], &utf16),
        (
            "behind a byte order mark",
            &[json],
            &format!("\u{ef}\u{bb}\u{bf}{OPEN_FIREWALL}"),
        ),
        ("with a field named twice", &[json], &twice),
        ("in snake case", &[json], &snake),
        ("with escapes", &[json], &escaped),
        (
            "with a second text behind",
            &[json],
            &format!("{{}}{OPEN_FIREWALL}"),
        ),
        ("with comments", &[json], &format!("/**/{OPEN_FIREWALL}")),
        (
            "said to be compressed",
            &[json, "Content-Encoding: gzip"],
            OPEN_FIREWALL,
        ),
        (
            "compressed twice",
            &[
                json,
                "Content-Encoding: identity",
                "Content-Encoding: identity",
            ],
            OPEN_FIREWALL,
        ),
        (
            "in a coding nobody knows",
            &[json, "Content-Encoding: identity, identity"],
            OPEN_FIREWALL,
        ),
        (
            "in chunks with extensions",
            &[json, "Transfer-Encoding: chunked"],
            &format!(
                "{:x};a=b\r\n{OPEN_FIREWALL}\r\n0\r\n\r\n",
                OPEN_FIREWALL.len()
            ),
        ),
    ] {
        attempts.push(attempt(name, COMPUTE, &firewall, headers, body));
    }
    for host in [
        "www.googleapis.com",
        "compute.mtls.googleapis.com",
        "us-central1-compute.googleapis.com",
        "restricted.googleapis.com",
        "private.googleapis.com",
        "content-compute.googleapis.com",
        "compute.clients6.google.com",
    ] {
        attempts.push(attempt(
            "another host's name",
            host,
            &firewall,
            &[json],
            OPEN_FIREWALL,
        ));
    }
    assert_stopped(&world, &attempts);
}

#[test]
fn batches_with_two_readings_are_not_sent() {
    let world = World::start();
    let part =
        |request: &str| format!("--b\r\nContent-Type: application/http\r\n\r\n{request}\r\n");
    let read = part(&format!("GET {DATABASE} HTTP/1.1\r\n\r\n"));
    let open = part(&format!(
        "POST {FIREWALLS} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{OPEN_FIREWALL}",
        OPEN_FIREWALL.len()
    ));
    let instance = "/compute/v1/projects/lab-project/zones/us-central1-a/instances/vm1";
    let get = part(&format!("GET {instance} HTTP/1.1\r\n\r\n"));
    let mixed = "Content-Type: multipart/mixed; boundary=b";
    let overridden = get.replace(
        "HTTP/1.1\r\n",
        "HTTP/1.1\r\nX-HTTP-Method-Override: DELETE\r\n",
    );
    let line = "POST /batch/compute/v1";
    let mut attempts = Vec::new();
    for (name, headers, body) in [
        (
            "an open firewall in a batch",
            &[mixed][..],
            format!("{open}--b--"),
        ),
        ("behind a read", &[mixed], format!("{get}{open}--b--")),
        (
            "in a preamble",
            &[mixed],
            format!("{}{get}--b--", open.replace("--b", "--c")),
        ),
        (
            "in an epilogue",
            &[mixed],
            format!("{get}--b--\r\n{open}--b--"),
        ),
        (
            "behind the end of a part",
            &[mixed],
            format!("{}{open}--b--", get.trim_end()),
        ),
        (
            "a part that is overridden",
            &[mixed],
            format!("{overridden}--b--"),
        ),
        (
            "all parts overridden",
            &[mixed, "X-HTTP-Method-Override: DELETE"],
            format!("{get}--b--"),
        ),
        ("another service's part", &[mixed], format!("{read}--b--")),
        (
            "a batch in a batch",
            &[mixed],
            format!(
                "{}--b--",
                get.replace("GET /compute/v1", "POST /batch/compute/v1")
            ),
        ),
        ("no end", &[mixed], get.clone()),
        (
            "two boundaries",
            &["Content-Type: multipart/mixed; boundary=b; boundary*0=c"],
            format!("{get}--b--"),
        ),
        (
            "a boundary with a comment",
            &["Content-Type: multipart/mixed; boundary=b(c)"],
            format!("{get}--b--"),
        ),
        (
            "a compressed batch",
            &[mixed, "Content-Encoding: gzip"],
            format!("{get}--b--"),
        ),
        (
            "a fragment",
            &[mixed],
            format!("{}--b--", get.replace("vm1", "vm1?a=b#c")),
        ),
    ] {
        attempts.push(attempt(name, COMPUTE, line, headers, &body));
    }
    assert_stopped(&world, &attempts);
}

#[test]
fn storage_gives_nothing_away_by_another_door() {
    let world = World::start();
    let object = "/prod-bucket/release.tar";
    let put = format!("PUT {object}");
    let upload = "/upload/storage/v1/b/prod-bucket/o";
    let attempts = [
        attempt(
            "a public object by XML",
            STORAGE,
            &put,
            &["x-goog-acl: public-read"],
            "x",
        ),
        attempt(
            "by Amazon's header",
            STORAGE,
            &put,
            &["x-amz-acl: public-read"],
            "x",
        ),
        attempt(
            "a copy by XML",
            STORAGE,
            &put,
            &["x-goog-copy-source: /other/secret"],
            "",
        ),
        attempt(
            "an ACL by XML",
            STORAGE,
            &format!("{put}?acl"),
            &[],
            "<AccessControlList/>",
        ),
        attempt(
            "a signed URL",
            STORAGE,
            &format!("{put}?X-Goog-Signature=1&X-Goog-Algorithm=a"),
            &[],
            "x",
        ),
        attempt(
            "an old signed URL",
            STORAGE,
            &format!("{put}?Signature=1&GoogleAccessId=a&Expires=9"),
            &[],
            "x",
        ),
        attempt(
            "an upload by XML",
            STORAGE,
            &format!("POST {object}"),
            &["x-goog-resumable: start"],
            "",
        ),
        attempt(
            "a form",
            STORAGE,
            "POST /prod-bucket",
            &["Content-Type: multipart/form-data; boundary=b"],
            "--b--",
        ),
        attempt(
            "another bucket",
            STORAGE,
            "GET /prod-bucket/..%2Fother%2Fsecret",
            &[],
            "",
        ),
        attempt(
            "the JSON of another",
            STORAGE,
            "GET /storage/v1/b/prod-bucket/o/..%2F..%2Fother%2Fo%2Fs",
            &[],
            "",
        ),
        attempt(
            "a download host",
            "prod-bucket.storage-download.googleapis.com",
            "GET /x",
            &[],
            "",
        ),
        attempt(
            "somebody else's upload",
            STORAGE,
            &format!("PUT {upload}?uploadType=resumable&upload_id=ABPtcPstolen"),
            &[],
            "x",
        ),
        attempt(
            "the same without a type",
            STORAGE,
            &format!("POST {upload}?upload_id=ABPtcPstolen"),
            &["X-Goog-Upload-Command: upload, finalize"],
            "x",
        ),
        attempt(
            "the same in a form",
            STORAGE,
            &format!("POST {upload}"),
            &[
                "X-HTTP-Method-Override: PUT",
                "Content-Type: application/x-www-form-urlencoded",
            ],
            "upload_id=A",
        ),
        attempt(
            "public by the query",
            STORAGE,
            &format!("POST {upload}?uploadType=media&name=n&predefinedAcl=publicRead"),
            &[],
            "x",
        ),
        attempt(
            "public by its metadata",
            STORAGE,
            &format!("POST {upload}?uploadType=resumable"),
            &["Content-Type: application/json"],
            r#"{"name":"n","acl":[{"entity":"allUsers","role":"READER"}]}"#,
        ),
    ];
    assert_stopped(&world, &attempts);
}

#[test]
fn a_crowd_is_kept_small() {
    let world = World::start();
    let ran = world
        .sandbox()
        .python("crowd.py", &["connections"])
        .succeeded();
    assert!(ran.says("alive: 512"), "{ran}");
    let ran = world.sandbox().python("crowd.py", &["resets"]).succeeded();
    assert!(ran.says("stopped after"), "{ran}");
    world.assert_daemon_works("a crowd");
}

/// An upload's id says by itself where the bytes go, whatever bucket the path names.
#[test]
fn an_upload_goes_on_where_it_was_begun_and_nowhere_else() {
    const SCRIPT: &str = r#"
        set -e
        base=https://storage.googleapis.com/upload/storage/v1/b
        url=$(curl -sS --fail -X POST "$base/prod-bucket/o?uploadType=resumable&name=begun" \
            -o /dev/null -D - | tr -d '\r' | sed -n 's/^location: //Ip')
        echo "$url"
        put() { curl -sS -o /dev/null -w '%{http_code}\n' -T /etc/hostname "$1"; }
        put "$base/other-bucket/o?${url#*\?}"
        put "$url"
    "#;
    let world = World::start();
    let ran = world.sandbox().run(&["bash", "-c", SCRIPT]).succeeded();
    let said: Vec<&str> = ran.stdout.lines().collect();
    let [url, elsewhere, there] = said[..] else {
        panic!("{ran}")
    };
    assert_eq!((elsewhere, there), ("400", "200"), "{ran}");
    let put = [
        "curl",
        "-sS",
        "-w",
        "%{http_code}",
        "-T",
        "/etc/hostname",
        url,
    ];
    let ran = world.sandbox().run(&put);
    assert!(ran.stdout.ends_with("400"), "another session: {ran}");
    let bucket = "/upload/storage/v1/b/prod-bucket/o";
    assert_eq!(world.count("PUT", bucket), 1, "{:#?}", world.arrivals());
}
