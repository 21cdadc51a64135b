//! Bytes that nobody means well with.

use proptest::prelude::*;

use super::*;

/// What the scanners have to tell apart, and anything else.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let telling = proptest::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b"\"",
        b":",
        b",",
        b"\\",
        b"\\u00",
        b"41",
        b"1",
        b"-",
        b" ",
        b"\n",
        b"\r\n",
        b"&",
        b"=",
        b"%",
        b"%4",
        b"+",
        b"<",
        b">",
        b"</",
        b"/>",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"&#",
        b";",
        b"--b",
        b"--",
        b"A: b",
        b"AIza",
        b"eyJ",
        b"://",
        b"@",
        b"a@b.de",
        b"-----BEGIN ",
        b"PRIVATE KEY-----",
        b"-----END",
        b"\0",
        b"\x0a",
        b"\x12\x03abc",
        b"\xff",
        b"\xc3",
        b"\xa9",
        b"LS0tLS1CRUdJTi",
        b"4111 1111 1111 1111",
        b"sk-",
        b"token=",
        b"\"password\"",
    ]);
    let piece = prop_oneof![
        6 => telling.prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "[ -~]{0,40}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn form() -> impl Strategy<Value = Form> {
    proptest::sample::select(vec![
        Form::Json,
        Form::JsonLines,
        Form::Text,
        Form::UrlEncoded,
        Form::Xml,
        Form::Protobuf,
        Form::Grpc,
        Form::Multipart {
            boundary: "b".into(),
        },
        Form::Http,
        Form::Opaque,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes, in whatever pieces: no panic, and the same result.
    #[test]
    fn pieces_never_matter(form in form(), bytes in bytes()) {
        let set = masks().union(BUILT_IN).expect("built in");
        let _ = try_masked_bytes(&set, &form, &bytes);
        let _ = mask_token_in(&bytes);
        let _ = set.value("x", &String::from_utf8_lossy(&bytes));
    }

    /// What one reader takes for JSON and this one does not is withheld; the other way round, nothing is.
    #[test]
    fn what_passes_is_json(bytes in bytes()) {
        let set = masks().union(BUILT_IN).expect("built in");
        if let Ok(out) = try_masked(&set, &Form::Json, &bytes) {
            let out = out.trim_start_matches('\u{feff}');
            if !out.trim().is_empty() {
                let parsed = serde_json::from_str::<serde::de::IgnoredAny>(out);
                prop_assert!(parsed.is_ok(), "{out}");
            }
        }
    }

    /// What is masked once stays so.
    #[test]
    fn masks_are_not_masked(name in "[a-z]{1,10}", secret in "[A-Za-z0-9]{12,30}") {
        let input = format!(r#"{{"{name}Password":"{secret}","x":"ya29.{secret}{secret}"}}"#);
        let once = masked(&["secrets", "pii"], Form::Json, &input);
        prop_assert!(!once.contains(&secret));
        prop_assert_eq!(&masked(&["secrets", "pii"], Form::Json, &once), &once);
    }
}

/// Time is linear: a megabyte of beginnings is looked at within moments (minutes, if each was looked at to its end).
#[test]
fn beginnings_without_ends_cost_little() {
    let set = masks().union(BUILT_IN).expect("built in");
    for piece in [
        "eyJ",
        "-----BEGIN ",
        "://",
        "@",
        "a@",
        "LS0tLS1CRUdJTi",
        "sk-",
        "token=",
        "token=$",
        "secret=\"",
        "4111 ",
        "1-",
        "+1 ",
        "DE89 ",
        "ghp_",
        "signature=",
        "BADANBgkqhkiG9w0BAQEFAASC",
        "a.b@c.",
    ] {
        let body = format!(
            "[\"{}\"]",
            piece.replace('"', "\\\"").repeat((1 << 20) / piece.len())
        );
        assert!(set.scan(Form::Json, body.as_bytes()).is_ok(), "{piece}");
    }
}
