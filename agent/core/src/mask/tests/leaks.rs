//! Planted secrets: none may come through, whatever the form, the place, the escapes and the pieces.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::{
    super::{Form, Masker},
    masks,
    random::{ALNUM, LOWER, Random, TOKEN},
};

const DOCUMENTS: u64 = 10_000;

/// A secret, and the part of it that nobody may see.
struct Planted {
    text: String,
    needle: String,
}

fn planted(random: &mut Random) -> Planted {
    let whole = |text: String| Planted {
        needle: text.clone(),
        text,
    };
    let after = |beginning: &str, needle: String| Planted {
        text: format!("{beginning}{needle}"),
        needle,
    };
    let token = |random: &mut Random, length| random.text(ALNUM, length);
    match random.below(22) {
        0 => {
            let needle = random.text(ALNUM, 64);
            let line = random.one(&["\n", "\\n", "\r\n", " "]);
            let kind = random.one(&["", "RSA ", "EC ", "OPENSSH "]);
            Planted {
                text: format!(
                    "-----BEGIN {kind}PRIVATE KEY-----{line}{needle}{line}-----END {kind}PRIVATE KEY-----"
                ),
                needle,
            }
        }
        1 => {
            let needle = random.text(ALNUM, 60);
            let file = format!(
                "{{\"a\":\"-----BEGIN PRIVATE KEY-----\\n{needle}\\n-----END PRIVATE KEY-----\"}}"
            );
            whole(BASE64_STANDARD.encode(file))
        }
        2 => after("AIza", random.text(TOKEN, 35)),
        3 => after("ya29.", random.text(TOKEN, 60)),
        4 => after("1//0", random.text(TOKEN, 60)),
        5 => after("GOCSPX-", random.text(TOKEN, 28)),
        6 => {
            let kind: &str = random.one::<&str>(&["ghp_", "gho_", "ghs_", "github_pat_"]);
            after(kind, token(random, 36))
        }
        7 => after("glpat-", token(random, 20)),
        8 => after("xoxb-", token(random, 30)),
        9 => after(
            "https://hooks.slack.com/services/",
            format!(
                "T{}/B{}/{}",
                random.digits(8),
                random.digits(8),
                token(random, 24)
            ),
        ),
        10 => after("AKIA", random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        11 => after("aws_secret_access_key=", token(random, 40)),
        12 => after("sk-proj-", format!("aA1{}", token(random, 40))),
        13 => after("sk-ant-api03-", token(random, 40)),
        14 => {
            let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
            after(
                &format!("{header}."),
                format!("{}.{}", token(random, 50), token(random, 43)),
            )
        }
        15 => {
            let needle = token(random, 12);
            Planted {
                text: format!("postgres://user:{needle}@db.internal:5432/x"),
                needle,
            }
        }
        16 => after(
            "https://x.example/o?X-Goog-Signature=",
            random.text("0123456789abcdef", 64),
        ),
        17 => after("Authorization: Bearer ", format!("1{}", token(random, 30))),
        18 => whole(format!(
            "{}.{}@{}.com",
            random.text(LOWER, 5),
            random.text(LOWER, 6),
            random.text(LOWER, 8)
        )),
        19 => whole(format!("+49 30 {}", random.digits(8))),
        20 => {
            let area = 100 + random.below(500);
            whole(format!(
                "{area}-{:02}-{:04}",
                1 + random.below(99),
                1 + random.below(9999)
            ))
        }
        _ => whole(card(random)),
    }
}

/// Sixteen digits of Visa's with the right last one.
fn card(random: &mut Random) -> String {
    let digits = format!("4{}", random.digits(14));
    let doubled = |(index, digit): (usize, char)| {
        let digit = digit.to_digit(10).expect("digit");
        if index % 2 == 1 {
            digit
        } else if digit > 4 {
            digit * 2 - 9
        } else {
            digit * 2
        }
    };
    let sum: u32 = digits.chars().enumerate().map(doubled).sum();
    let separator = random.one(&["", " ", "-"]);
    let all = format!("{digits}{}", (10 - sum % 10) % 10);
    [&all[..4], &all[4..8], &all[8..12], &all[12..]].join(separator)
}

/// Text around it, as sentences, lists and configuration have it.
fn surrounded(random: &mut Random, secret: &str) -> String {
    let before = random.one(&["", "see ", "\"", "(", "x = ", "\u{201e}", "a, ", "\t", "€ "]);
    let after = random.one(&["", " there", "\"", ")", ", b", "\u{201c}", "\n", ";", " €"]);
    format!("{before}{secret}{after}")
}

fn escaped(random: &mut Random, text: &str) -> String {
    let often = random.below(4);
    let character = |character: char, random: &mut Random| match character {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other if often > 0 && random.below(often * 4) == 0 => {
            let mut units = [0; 2];
            let units = other.encode_utf16(&mut units).iter();
            units.map(|unit| format!("\\u{unit:04X}")).collect()
        }
        other => other.to_string(),
    };
    text.chars().map(|c| character(c, random)).collect()
}

fn json(random: &mut Random, secret: &str) -> String {
    let text = escaped(random, secret);
    let mut document = match random.below(4) {
        0 => format!("{{\"{text}\":{}}}", random.below(100)),
        _ => format!("\"{text}\""),
    };
    for _ in 0..random.below(5) {
        let name = random.text(LOWER, 6);
        let length = random.below(40);
        let filler = random.text(ALNUM, length);
        document = match random.below(4) {
            0 => format!("[1, {document} ,null]"),
            1 => format!("{{\"{name}\":{document},\"z\":\"{filler}\"}}"),
            2 => format!("{{\"{name}\":\"{filler}\\n\",\"{name}\" : {document}}}"),
            _ => format!("[{document},{{}},[],-1.5e3,true]"),
        };
    }
    document
}

fn message(random: &mut Random, secret: &str) -> Vec<u8> {
    let mut content = secret.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let mut outer = vec![0x08, 0x96, 0x01];
        outer.push((1 + random.below(15) as u8) << 3 | 2);
        let mut length = content.len();
        while length >= 0x80 {
            outer.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&content);
        outer.extend_from_slice(&[0x7d, 1, 2, 3, 4]);
        content = outer;
    }
    content
}

fn xml_escaped(random: &mut Random, text: &str) -> String {
    let character = |character: char, random: &mut Random| match character {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&quot;".to_owned(),
        other if random.below(6) == 0 => format!("&#{};", u32::from(other)),
        other => other.to_string(),
    };
    text.chars().map(|c| character(c, random)).collect()
}

/// A document of some form with the secret in it.
fn document(random: &mut Random, secret: &str) -> (Form, Vec<u8>) {
    let text = surrounded(random, secret);
    match random.below(8) {
        0..=2 => (Form::Json, json(random, &text).into_bytes()),
        3 => (
            Form::JsonLines,
            format!("{{\"a\":1}}\n{}\n", json(random, &text)).into_bytes(),
        ),
        4 => (
            Form::Text,
            format!("first line\n  {text}\nlast line").into_bytes(),
        ),
        5 => {
            let value = percent_encode(text.as_bytes(), NON_ALPHANUMERIC);
            (
                Form::UrlEncoded,
                format!("a=1&{}={value}&b", random.text(LOWER, 5)).into_bytes(),
            )
        }
        6 => {
            let text = xml_escaped(random, &text);
            let body = match random.below(2) {
                0 => format!("<?xml version='1.0'?>\n<a><b c=\"x\">{text}</b><d/></a>"),
                _ => format!("<a b=\"{text}\"><!-- c --></a>"),
            };
            (Form::Xml, body.into_bytes())
        }
        _ => match random.below(2) {
            0 => {
                let message = message(random, &text);
                let length = u32::try_from(message.len()).expect("short").to_be_bytes();
                (Form::Grpc, [&[0][..], &length, &message].concat())
            }
            _ => {
                let inner = json(random, &text);
                let boundary = "batch_xyz".to_owned();
                let body = format!(
                    "--{boundary}\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{inner}\r\n--{boundary}\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n--{boundary}--\r\n",
                    inner.len()
                );
                (Form::Multipart { boundary }, body.into_bytes())
            }
        },
    }
}

/// In pieces of random lengths.
fn masked(form: &Form, body: &[u8], random: &mut Random) -> Vec<u8> {
    let set = masks().union(["secrets", "pii"]).expect("built in");
    let mut masker = Masker::new(set, form.clone());
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let length = random.below(rest.len()).min(random.below(40));
        let (now, later) = rest.split_at(1 + length);
        masker.push(now, &mut out).expect("readable");
        rest = later;
    }
    masker.finish(&mut out).expect("all there");
    out
}

/// The text in it, without its dress.
fn undressed(form: &Form, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match form {
        Form::UrlEncoded => percent_decode(text.as_bytes())
            .decode_utf8_lossy()
            .into_owned(),
        Form::Xml => {
            let decoded = text.split("&#").enumerate().map(|(index, part)| {
                match (index, part.split_once(';')) {
                    (1.., Some((number, rest))) => {
                        let character = number
                            .parse()
                            .ok()
                            .and_then(char::from_u32)
                            .expect("reference");
                        format!("{character}{rest}")
                    }
                    _ => part.to_owned(),
                }
            });
            decoded.collect()
        }
        Form::Json | Form::JsonLines => serde_json::Deserializer::from_slice(body)
            .into_iter::<serde_json::Value>()
            .map(|value| value.expect("valid JSON").to_string())
            .collect(),
        _ => text,
    }
}

#[test]
fn nothing_planted_comes_through() {
    let mut leaked = Vec::new();
    for seed in 0..DOCUMENTS {
        let mut random = Random::new(seed);
        let secret = planted(&mut random);
        let (form, body) = document(&mut random, &secret.text);
        let out = masked(&form, &body, &mut random);
        let shown = undressed(&form, &out);
        let raw = String::from_utf8_lossy(&out);
        if shown.contains(&secret.needle) || raw.contains(&secret.needle) {
            leaked.push(format!("{seed}: {} in {form:?}: {raw}", secret.text));
        }
    }
    assert!(
        leaked.is_empty(),
        "{} leaked, such as {}",
        leaked.len(),
        leaked[..leaked.len().min(5)].join("\n")
    );
}

#[test]
fn pieces_do_not_matter() {
    let set = masks().union(["secrets", "pii"]).expect("built in");
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let secret = planted(&mut random);
        let (form, body) = document(&mut random, &secret.text);
        let mut masker = Masker::new(set.clone(), form.clone());
        let mut at_once = Vec::new();
        masker.push(&body, &mut at_once).expect("readable");
        masker.finish(&mut at_once).expect("all there");
        let in_pieces = masked(&form, &body, &mut random);
        assert_eq!(
            String::from_utf8_lossy(&at_once),
            String::from_utf8_lossy(&in_pieces),
            "{seed} {form:?}"
        );
    }
}
