//! `cargo xtask bench mask`: how fast bodies are masked, beside copying and parsing them in the same run.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use holdpoint_core::mask::{
    Form, Masker, Masks,
    rows::{Column, RowMasker},
};

/// What a body comes in, in bytes: hyper's usual piece.
const PIECE: usize = 16 << 10;
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(1);

fn main() {
    let masks = Masks::new(&[], [1; 32]).expect("the built-in sets");
    println!(
        "{:34} {:>9} {:>9} {:>9} {:>9}",
        "", "MB/s", "p50 us", "x memcpy", "x parse"
    );
    for (name, body) in [
        ("clean JSON, 2 KB", clean(2)),
        ("clean JSON, 64 KB", clean(64)),
        ("dense JSON, 10 KB", dense()),
    ] {
        let copied = measure(&body, |body, out| out.extend_from_slice(black_box(body)));
        let parsed = measure(&body, |body, _| {
            black_box(serde_json::from_slice::<serde_json::Value>(body).expect("JSON"));
        });
        for sets in [&["secrets"][..], &["secrets", "pii", "minted"]] {
            let set = masks.union(sets.iter().copied()).expect("built in");
            let masked = measure(&body, |body, out| {
                let mut masker = Masker::new(set.clone(), Form::Json);
                for piece in body.chunks(PIECE) {
                    masker.push(piece, out).expect("JSON");
                }
                black_box(masker.finish(out).expect("all there"));
            });
            println!(
                "{:34} {:9.0} {:9.1} {:9.3} {:9.2}",
                format!("{name}, {}", sets.join("+")),
                body.len() as f64 / masked.as_secs_f64() / 1e6,
                masked.as_secs_f64() * 1e6,
                copied.as_secs_f64() / masked.as_secs_f64(),
                parsed.as_secs_f64() / masked.as_secs_f64(),
            );
        }
    }
    rows(&masks);
}

/// Rows of ten columns, of which three are text: what scanning them costs.
fn rows(masks: &Masks) {
    let types = [20, 23, 16, 1184, 25, 25, 1043, 2950, 701, 23];
    let values: [&[u8]; 10] = [
        b"1234567890",
        b"42",
        b"t",
        b"2026-03-04 05:06:07.890+00",
        b"gke-main-pool-8e4f, in the zone where the others are",
        b"The pressure rose twice on Tuesday; nobody was there to see it, and the valve has been changed since.",
        b"RUNNING",
        b"0b6f3f0e-64a5-4a42-b5ba-0c0e4c3c2e11",
        b"3.14159",
        b"7",
    ];
    let columns: Vec<Column> = types
        .iter()
        .enumerate()
        .map(|(at, type_oid)| Column {
            name: format!("column_{at}"),
            origin: None,
            type_oid: *type_oid,
            format: 0,
        })
        .collect();
    let mut row = vec![0, 10];
    for value in values {
        let length = u32::try_from(value.len()).expect("short");
        row.extend_from_slice(&length.to_be_bytes());
        row.extend_from_slice(value);
    }
    for sets in [&["secrets"][..], &["secrets", "pii"]] {
        let set = masks.union(sets.iter().copied()).expect("built in");
        let mut masker = RowMasker::new(set, &columns, Some("SELECT"));
        let masked = measure(&row, |row, out| {
            for _ in 0..1000 {
                out.clear();
                masker.row(row, out).expect("a row");
            }
        }) / 1000;
        println!(
            "{:34} {:9.0} {:9.2}",
            format!("clean rows, {}", sets.join("+")),
            row.len() as f64 / masked.as_secs_f64() / 1e6,
            masked.as_secs_f64() * 1e6,
        );
    }
}

/// The median time.
fn measure(body: &[u8], mut work: impl FnMut(&[u8], &mut Vec<u8>)) -> Duration {
    let mut out = Vec::with_capacity(2 * body.len());
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < MEASURED || times.len() < 11 {
        out.clear();
        let before = Instant::now();
        work(black_box(body), &mut out);
        times.push(before.elapsed());
        black_box(&out);
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// A list of instances as Compute Engine writes it, of about so many KB.
fn clean(kilobytes: usize) -> Vec<u8> {
    let mut body = "{\n  \"kind\": \"compute#instanceList\",\n  \"items\": [".to_owned();
    let mut number = 1_000_000_000_000_000_000_u64;
    while body.len() < kilobytes * 1000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005) % 8_999_999_999_999_999_999
            + 1_000_000_000_000_000_000;
        if body.ends_with('}') {
            body.push(',');
        }
        body.push_str(&format!(
            r#"
    {{
      "kind": "compute#instance",
      "id": "{number}",
      "creationTimestamp": "2026-03-04T05:06:07.890-08:00",
      "name": "gke-main-pool-{number:x}",
      "tags": {{ "items": [ "http-server", "gke-main" ], "fingerprint": "{:x}=" }},
      "machineType": "https://www.googleapis.com/compute/v1/projects/p-{number}/zones/europe-west1-b/machineTypes/e2-standard-4",
      "status": "RUNNING",
      "zone": "https://www.googleapis.com/compute/v1/projects/p-{number}/zones/europe-west1-b",
      "networkInterfaces": [ {{ "networkIP": "10.132.0.{}", "stackType": "IPV4_ONLY", "mtu": 1460 }} ],
      "disks": [ {{ "type": "PERSISTENT", "mode": "READ_WRITE", "index": 0, "boot": true, "diskSizeGb": "100" }} ],
      "serviceAccounts": [ {{ "email": "{}-compute@developer.gserviceaccount.com", "scopes": [ "https://www.googleapis.com/auth/cloud-platform" ] }} ],
      "labelFingerprint": "{:x}",
      "deletionProtection": false
    }}"#,
            number >> 20,
            number % 250,
            number >> 24,
            number >> 28,
        ));
    }
    body.push_str("\n  ]\n}\n");
    body.into_bytes()
}

/// Full of what has to be masked: something every 40 bytes.
fn dense() -> Vec<u8> {
    let mut body = "[".to_owned();
    for number in 0.. {
        if body.len() > 10_000 {
            break;
        }
        body.push_str(&format!(
            r#"{{"user":"jane.{number}@example.com","password":"hunter{number}","note":"call +49 30 1234{:04}, key AIza{:035}","card":"4111 1111 1111 1111","url":"postgres://u:pw{number}@h/d"}},"#,
            number, number
        ));
    }
    body.push_str("{}]");
    body.into_bytes()
}
