//! The agent never holds a real credential, and what it brings along is worth nothing.

use std::{fs, path::Path};

use holdpoint_tests::{
    host,
    stand_in::SECRET,
    world::{INSTANCES_URL, Settings, World},
};

const TOKEN_URL: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";

/// Everything that must not be seen: the token, and lines of the private key.
fn secrets(world: &World) -> Vec<String> {
    let key = fs::read_to_string(&world.google.key_file).expect("the key file");
    let key: serde_json::Value = serde_json::from_str(&key).expect("JSON");
    let pem = key["private_key"].as_str().expect("a key").to_owned();
    let line = pem.lines().nth(3).expect("a key has lines").to_owned();
    vec![world.google.token().to_owned(), line]
}

fn assert_clean(secrets: &[String], place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in secrets {
        assert!(
            !text.contains(secret.as_str()),
            "a real credential is in {place}"
        );
    }
}

fn assert_tree_is_clean(secrets: &[String], dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            assert_tree_is_clean(secrets, &entry.path());
        } else if kind.is_file() {
            let content = fs::read(entry.path()).expect("root reads everything");
            assert_clean(secrets, &entry.path().display().to_string(), &content);
        }
    }
}

#[test]
fn no_real_credential_in_environment_files_or_replies() {
    host::require_program("gcloud", "google-cloud-cli").unwrap_or_else(|error| panic!("{error}"));
    let world = World::start();
    let agent = world.sandbox();
    let secrets = secrets(&world);
    let commands: [&[&str]; 6] = [
        &["env"],
        &["gcloud", "sql", "instances", "list"],
        &["gcloud", "auth", "print-access-token"],
        &["curl", "-sS", "-H", "Metadata-Flavor: Google", TOKEN_URL],
        &["curl", "-sSv", INSTANCES_URL],
        &[
            "sh",
            "-c",
            "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'",
        ],
    ];
    for command in commands {
        let ran = agent.run(command).succeeded();
        assert_clean(&secrets, &ran.name, ran.stdout.as_bytes());
        assert_clean(&secrets, &ran.name, ran.stderr.as_bytes());
    }
    assert_tree_is_clean(&secrets, agent.home());
    assert_tree_is_clean(&secrets, &world.dir().join("run"));
    let used = format!("Bearer {}", world.google.token());
    let arrivals = world.arrivals();
    assert!(!arrivals.is_empty());
    assert!(
        arrivals
            .iter()
            .all(|it| it.authorization.as_ref() == Some(&used))
    );
}

#[test]
fn neither_the_key_file_nor_the_state_can_be_read_from_inside() {
    let world = World::start();
    for path in [world.google.key_file.clone(), world.dir().join("state")] {
        let path = path.to_str().expect("a plain path").to_owned();
        let ran = world
            .sandbox()
            .run(&["sh", "-c", &format!("cat {path} || ls -R {path}")])
            .failed();
        assert_clean(&secrets(&world), &ran.name, ran.stdout.as_bytes());
    }
}

#[test]
fn credentials_an_agent_brings_along_never_leave() {
    let world = World::start();
    let brought: [&[&str]; 4] = [
        &["-H", "Authorization: Bearer ya29.brought-along"],
        &[
            "-H",
            "Authorization: Basic b2F1dGgyYWNjZXNzdG9rZW46eWEyOS5icm91Z2h0LWFsb25n",
        ],
        &["-H", "X-Goog-IAM-Authorization-Token: ya29.brought-along"],
        &["-H", "Proxy-Authorization: Bearer ya29.brought-along"],
    ];
    for header in brought {
        let mut command = vec!["curl", "-sS", INSTANCES_URL];
        command.extend_from_slice(header);
        let _ = world.sandbox().run(&command).succeeded();
    }
    let in_query = format!("{INSTANCES_URL}?access_token=ya29.brought-along");
    let _ = world.sandbox().run(&["curl", "-sS", &in_query]);
    let used = format!("Bearer {}", world.google.token());
    for arrival in world.arrivals() {
        assert_eq!(arrival.authorization.as_ref(), Some(&used), "{arrival:?}");
        let all = format!("{arrival:?}");
        assert!(!all.contains("brought-along"), "{all}");
        assert!(!all.contains("b2F1dGgyYWNj"), "{all}");
        assert!(!all.contains("ya29.holdpoint"), "{all}");
    }
}

#[test]
fn a_secret_is_not_handed_out_without_approval() {
    host::require_program("gcloud", "google-cloud-cli").unwrap_or_else(|error| panic!("{error}"));
    // What is approved would come masked otherwise.
    let settings = Settings {
        extra_policies: r#"@id("secrets-as-they-are") @mask("none")
            permit(principal, action == Action::"secretmanager.projects.secrets.versions.access", resource);"#
            .to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let access = [
        "gcloud", "secrets", "versions", "access", "latest", "--secret", "s1",
    ];
    let running = world.sandbox().start(&access);
    let hold = world.wait_for_hold("secretmanager");
    world.deny(hold.id()).expect("root may deny");
    let ran = running.finish().failed();
    assert!(!ran.says(SECRET), "{ran}");

    let running = world.sandbox().start(&access);
    let hold = world.wait_for_hold("secretmanager");
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish().succeeded();
    assert!(ran.says(SECRET), "{ran}");
}

#[test]
fn a_reply_that_mints_a_credential_does_not_come_unasked() {
    let world = World::start();
    let url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/agent@lab-project.iam.gserviceaccount.com:generateAccessToken";
    let body = r#"{"scope":["https://www.googleapis.com/auth/cloud-platform"]}"#;
    let header = "Content-Type: application/json";
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "-m", "5", "-H", header, "-d", body, url]);
    assert!(!ran.says("ya29.impersonated"), "{ran}");
    let path = url
        .strip_prefix("https://iamcredentials.googleapis.com")
        .expect("the host");
    assert_eq!(world.count("POST", path), 0);
}
