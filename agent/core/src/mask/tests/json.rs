//! JSON: masks stand in valid JSON of the same structure; what is not JSON does not pass.

use super::*;

const KEY: &str = "AIzaSyA1234567890abcdefghijklmnopqrstuv";

#[test]
fn secrets_by_form_in_values_keys_and_escapes() {
    let escaped = KEY.replace('S', "\\u0053");
    let input = format!(
        r#"{{"a": [1, "see {KEY} there"], "b":"\"{escaped}\"\n", "{KEY}": null,"d":{{"e":{{}}}}}}"#
    );
    assert_eq!(
        masked(&["secrets"], Form::Json, &input),
        r#"{"a": [1, "see [masked:google-api-key] there"], "b":"\"[masked:google-api-key]\"\n", "[masked:google-api-key]": null,"d":{"e":{}}}"#
    );
}

#[test]
fn secrets_by_name() {
    let input = r#"{"rootPassword":1234,"client_secret":["a","b"],"metadata":{"items":[{"key":"DB_PASSWORD","value":"x"},{"key":"a","value":"y"}]},"password":null,"token":"","passwordPolicy":{"x":"y"}}"#;
    assert_eq!(
        masked(&["secrets"], Form::Json, input),
        r#"{"rootPassword":"[masked:secret-field]","client_secret":["[masked:secret-field]","[masked:secret-field]"],"metadata":{"items":[{"key":"DB_PASSWORD","value":"[masked:secret-field]"},{"key":"a","value":"y"}]},"password":null,"token":"","passwordPolicy":{"x":"y"}}"#
    );
}

#[test]
fn what_is_minted() {
    let bytes = BASE64_STANDARD.encode("[masked:minted]");
    let input = r#"{"privateKeyData":"ewp9","accessToken":"x","expireTime":"t","payload":{"data":"c2VjcmV0","dataCrc32c":"1"},"data":"x"}"#;
    assert_eq!(
        masked(&["minted"], Form::Json, input),
        format!(
            r#"{{"privateKeyData":"{bytes}","accessToken":"[masked:minted]","expireTime":"t","payload":{{"data":"{bytes}","dataCrc32c":null}},"data":"x"}}"#
        )
    );
    // Without its name, a key file in base64 is known by what is in it.
    let file = BASE64_STANDARD
        .encode(r#"{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nMIIE"}"#);
    let out = masked(&["secrets"], Form::Json, &format!(r#"{{"x":"{file}"}}"#));
    assert_eq!(out, r#"{"x":"[masked:encoded-key]"}"#);
}

#[test]
fn numbers_that_are_somebody_s_become_strings() {
    let input = r#"{"pan":4111111111111111,"phone":4155552671,"id":4111111111111111,"x":12}"#;
    assert_eq!(
        masked(&["pii"], Form::Json, input),
        r#"{"pan":"[masked:card]","phone":"[masked:phone]","id":4111111111111111,"x":12}"#
    );
}

#[test]
fn a_field_s_rule_holds_for_all_that_is_in_it() {
    let set = own("name = \"o\"\nfields = [\"$.a\"]")
        .union(["o"])
        .expect("the set");
    let input = r#"{"a":{"b":["x",{"c":1}],"d":true},"e":{"a":"x"},"a":"twice"}"#;
    assert_eq!(
        try_masked(&set, &Form::Json, input.as_bytes()).as_deref(),
        Ok(
            r#"{"a":{"b":["[masked:o]",{"c":"[masked:o]"}],"d":true},"e":{"a":"x"},"a":"[masked:o]"}"#
        )
    );
}

#[test]
fn values_longer_than_the_window() {
    for filler in [
        1000,
        masker::WINDOW - 20,
        masker::WINDOW,
        2 * masker::WINDOW - 17,
        300_000,
    ] {
        let input = format!(
            r#"{{"x":"{} {KEY} \u0041\n {}","password":"{}"}}"#,
            "y".repeat(filler),
            "z".repeat(filler),
            "p".repeat(filler)
        );
        let out = masked(&["secrets"], Form::Json, &input);
        assert!(!out.contains(&KEY[10..]), "{filler}");
        let before: serde_json::Value = serde_json::from_str(&input).expect("JSON");
        let after: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let expected = before["x"]
            .as_str()
            .expect("text")
            .replace(KEY, "[masked:google-api-key]");
        assert_eq!(after["x"], expected);
        assert_eq!(after["password"], "[masked:secret-field]");
    }
    // What goes on for longer than can be looked at takes the rest of its value with it.
    let token = format!("ya29.{}", "t".repeat(200_000));
    let out = masked(
        &["secrets"],
        Form::Json,
        &format!(r#"["{} {token} x", "y"]"#, "a".repeat(60_000)),
    );
    assert!(!out.contains("ttt") && out.ends_with("[masked:google-access-token]\", \"y\"]"));
    let name = "k".repeat(100_000);
    let out = masked(
        &["secrets"],
        Form::Json,
        &format!(r#"{{"{name} {KEY}":1}}"#),
    );
    assert_eq!(out, format!(r#"{{"{name} [masked:google-api-key]":1}}"#));
}

#[test]
fn all_that_is_json_passes() {
    for input in [
        "",
        " \n",
        "null",
        "-0.5e+10",
        "\u{feff}{\"a\":1}",
        "[]",
        "{}",
        "[[],[{}]]",
        r#""\ud83d\ude00 \ud83d x \/ é""#,
        " [ 1 , 2 ] ",
    ] {
        assert_eq!(masked(&["secrets", "pii"], Form::Json, input), input);
    }
    let lines = "{\"a\":1}\n[2]\n\n3 4\n\"x\"{}";
    assert_eq!(masked(&["secrets"], Form::JsonLines, lines), lines);
    let deep = format!("{}{}", "[".repeat(256), "]".repeat(256));
    assert_eq!(masked(&["secrets"], Form::Json, &deep), deep);
}

#[test]
fn what_is_no_json_does_not_pass() {
    let set = masks().union(["secrets"]).expect("the set");
    let broken: [&[u8]; 26] = [
        b"{",
        b"[1",
        b"\"a",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"[1,]",
        b"[1 2]",
        b"1 2",
        b"{1:2}",
        b"tru",
        b"nulll",
        b"01",
        b"1.",
        b"+1",
        b"'a'",
        b"\"\\x\"",
        b"\"\\u12g4\"",
        b"\"a\nb\"",
        b"\"\xff\"",
        b"]",
        b"[}",
        b"\xff\xfe[\0]\0",
        b"[\xef\xbb\xbf]",
        b"\xef\xbb",
        b"{\"a\":1}x",
    ];
    for input in broken {
        assert!(
            try_masked(&set, &Form::Json, input).is_err(),
            "{:?}",
            String::from_utf8_lossy(input)
        );
    }
    let deep = "[".repeat(257);
    assert_eq!(
        try_masked(&set, &Form::Json, deep.as_bytes()),
        Err(Unreadable::TooDeep)
    );
}

#[test]
fn nothing_is_given_out_before_it_was_looked_at() {
    let set = masks().union(["secrets"]).expect("the set");
    let mut masker = Masker::new(set, Form::Json);
    let mut out = Vec::new();
    masker.push(br#"{"a":"AIza"#, &mut out).expect("so far");
    assert_eq!(out, br#"{"a":"#);
    assert!(
        masker
            .push(b"\x01", &mut out)
            .is_ok_and(|()| masker.push(b"\"", &mut out).is_err())
    );
    assert!(masker.push(b"x", &mut out).is_err(), "once broken, always");
    assert_eq!(out, br#"{"a":"#);
}
