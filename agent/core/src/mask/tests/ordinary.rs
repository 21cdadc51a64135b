//! Ordinary answers of Google's: nothing in them may be taken for what it is not.

use super::{
    super::{Form, Masker},
    masks,
    random::{ALNUM, LOWER, Random},
};

const ANSWERS: u64 = 10_000;

/// The names and kinds of all fields of all schemas in Google's discovery documents (google-api-python-client 2.202.0), apart from
/// booleans and enumerations: `name TAB format` lines.
const FIELDS: &[u8] = include_bytes!("google-fields.tsv.zst");

fn fields() -> Vec<(String, String)> {
    let text = zstd::decode_all(FIELDS).expect("zstd");
    let text = String::from_utf8(text).expect("UTF-8");
    let pair = |line: &str| {
        let (name, kind) = line.split_once('\t')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// A value as such a field has one. What is a secret or somebody's by the field's name is not ordinary.
fn value(random: &mut Random, name: &str, kind: &str) -> String {
    match kind {
        "int64" | "uint64" => format!("\"{}\"", id(random)),
        "int32" | "uint32" | "integer" => random.below(1_000_000).to_string(),
        "double" | "float" | "number" => format!("0.{}", random.digits(16)),
        "byte" => {
            let length = 4 * (2 + random.below(20));
            format!("\"{}=\"", random.text(ALNUM, length - 1))
        }
        "google-datetime" | "date-time" => time(random),
        "date" => "\"2024-05-06\"".to_owned(),
        "google-duration" => format!("\"{}.{}s\"", random.below(4000), random.digits(9)),
        _ => text(random, name),
    }
}

/// Project numbers, resource ids, counts, microseconds.
fn id(random: &mut Random) -> String {
    let first = 1 + random.below(9);
    match random.below(5) {
        0 => format!("{first}{}", random.digits(11)),
        1 | 2 => format!("{first}{}", random.digits(18)),
        3 => format!("17{}", random.digits(14)),
        _ => random.below(100_000).to_string(),
    }
}

fn time(random: &mut Random) -> String {
    let fraction = random.digits(9);
    let (month, hour) = (1 + random.below(12), random.below(24));
    match random.below(2) {
        0 => format!("\"2024-{month:02}-17T{hour:02}:04:05.{fraction}Z\""),
        _ => format!(
            "\"2024-{month:02}-17T{hour:02}:04:05.{}-07:00\"",
            &fraction[..3]
        ),
    }
}

fn text(random: &mut Random, name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let word = random.text(LOWER, 8);
    let project = format!("{word}-{}", random.digits(6));
    let hex = |random: &mut Random, length| random.text("0123456789abcdef", length);
    let text = if lower.ends_with("link") || lower.ends_with("uri") || lower.ends_with("url") {
        format!(
            "https://www.googleapis.com/compute/v1/projects/{project}/zones/us-central1-a/instances/{}",
            id(random)
        )
    } else if lower.contains("etag") || lower.contains("fingerprint") {
        format!("{}=", random.text(ALNUM, 11))
    } else {
        match random.below(14) {
            0 => format!(
                "projects/{project}/locations/europe-west1/things/{}",
                id(random)
            ),
            1 => format!("serviceAccount:{word}@{project}.iam.gserviceaccount.com"),
            2 => format!(
                "{}-compute@developer.gserviceaccount.com",
                random.digits(12)
            ),
            3 => format!(
                "10.{}.{}.{}",
                random.below(256),
                random.below(256),
                random.below(256)
            ),
            4 => format!(
                "{}-{}-4{}-a{}-{}",
                hex(random, 8),
                hex(random, 4),
                hex(random, 3),
                hex(random, 3),
                hex(random, 12)
            ),
            5 => format!("sha256:{}", hex(random, 64)),
            6 => format!(
                "gke-{word}-pool-{}-{}",
                hex(random, 8),
                random.text(LOWER, 4)
            ),
            7 => id(random),
            8 => format!(
                "{word}: the {word} of {project}, since 2024-01-02 03:04:05.123456+00, is 1.2.3-gke.{}",
                random.digits(7)
            ),
            9 => format!(
                "europe-docker.pkg.dev/{project}/{word}/image@sha256:{}",
                hex(random, 64)
            ),
            10 => format!("{}/20", random.below(1000)),
            11 => format!("{word}.example.com."),
            12 => format!("user:{word}"),
            _ => word,
        }
    };
    format!("\"{text}\"")
}

fn answer(random: &mut Random, fields: &[(String, String)]) -> String {
    let mut answer = "{\n  \"kind\": \"compute#instanceList\",\n  \"items\": [\n".to_owned();
    let items = 1 + random.below(3);
    for item in 0..items {
        answer.push_str(if item > 0 { ",\n    {" } else { "    {" });
        for field in 0..10 + random.below(20) {
            let (name, kind) = random.one(fields);
            let value = value(random, name, kind);
            answer.push_str(if field > 0 { ",\n" } else { "\n" });
            answer.push_str(&format!("      \"{name}\": {value}"));
        }
        answer.push_str("\n    }");
    }
    answer.push_str(&format!(
        "\n  ],\n  \"nextPageToken\": \"{}\"\n}}\n",
        random.text(ALNUM, 40)
    ));
    answer
}

/// What a field of this name holds is a secret, or somebody's number, whatever it looks like here.
fn is_ordinary(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let meant = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "privatekey",
        "authkey",
        "keystring",
        "cookie",
        "assertion",
        "connectionstring",
        "authstring",
        "phone",
        "mobile",
        "fax",
        "ssn",
        "cardnumber",
    ];
    !meant.iter().any(|meant| lower.contains(meant))
}

#[test]
fn ordinary_answers_pass_unchanged() {
    let fields: Vec<_> = fields()
        .into_iter()
        .filter(|(name, _)| is_ordinary(name))
        .collect();
    assert!(fields.len() > 10_000, "most names are ordinary");
    let set = masks().union(["secrets", "pii"]).expect("built in");
    let mut taken = Vec::new();
    for seed in 0..ANSWERS {
        let mut random = Random::new(seed);
        let answer = answer(&mut random, &fields);
        let mut masker = Masker::new(set.clone(), Form::Json);
        let mut out = Vec::new();
        masker.push(answer.as_bytes(), &mut out).expect("JSON");
        let found = masker.finish(&mut out).expect("all there");
        if !found.is_empty() {
            let out = String::from_utf8_lossy(&out);
            let masked = out.lines().filter(|line| line.contains("[masked:"));
            taken.push(format!("{seed}: {}", masked.collect::<Vec<_>>().join(" ")));
        } else {
            assert_eq!(String::from_utf8_lossy(&out), answer, "spelling stays");
        }
    }
    // 0.1 %
    let most = usize::try_from(ANSWERS / 1000).expect("small");
    assert!(
        taken.len() < most,
        "{} of {ANSWERS}, such as {}",
        taken.len(),
        taken[..taken.len().min(20)].join("\n")
    );
}

/// Names that only sound like it: places in lists and streams, references, kinds.
#[test]
fn names_that_sound_like_secrets_are_not_enough() {
    let answer = r#"{"nextPageToken":"abc","nextSyncToken":"abc","rewriteToken":"abc","streamToken":"YWJj","secretName":"x","pacemakerClusterSecret":"projects/p/secrets/s/versions/1",
        "passwordValidationPolicy":{"minLength":8},"tokenUri":"https://oauth2.googleapis.com/token","tokenFormat":"JWT","rawPromptToken":17,"kmsKeyName":"projects/p/k","secretVersion":"3"}"#;
    let set = masks().union(["secrets", "pii"]).expect("built in");
    assert_eq!(
        set.scan(Form::Json, answer.as_bytes()),
        Ok(Default::default())
    );
}
