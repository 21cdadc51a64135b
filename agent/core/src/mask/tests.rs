mod forms;
mod hostile;
mod json;
mod leaks;
mod ordinary;
mod random;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::*;

fn masks() -> Masks {
    Masks::new(&[], [7; 32]).expect("built-in sets")
}

/// One of the configuration's.
fn own(toml: &str) -> Masks {
    Masks::new(&[source(toml)], [7; 32]).expect("a set")
}

fn source(toml: &str) -> SetSource {
    toml::from_str(toml).expect("TOML")
}

fn try_masked(set: &Arc<MaskSet>, form: &Form, input: &[u8]) -> Result<String, Unreadable> {
    let out = try_masked_bytes(set, form, input)?;
    Ok(String::from_utf8(out).expect("UTF-8"))
}

fn try_masked_bytes(set: &Arc<MaskSet>, form: &Form, input: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut masker = Masker::new(set.clone(), form.clone());
    let mut out = Vec::new();
    let pushed = masker.push(input, &mut out);
    // One byte at a time, the same comes out.
    let mut single = Masker::new(set.clone(), form.clone());
    let mut slowly = Vec::new();
    let pushed_slowly = input
        .chunks(1)
        .try_for_each(|byte| single.push(byte, &mut slowly));
    let ended = pushed.and_then(|()| masker.finish(&mut out));
    let ended_slowly = pushed_slowly.and_then(|()| single.finish(&mut slowly));
    assert_eq!(
        ended.is_ok(),
        ended_slowly.is_ok(),
        "{ended:?}, {ended_slowly:?}"
    );
    let found = ended?;
    assert_eq!(ended_slowly.expect("the same"), found);
    assert_eq!(
        String::from_utf8_lossy(&slowly),
        String::from_utf8_lossy(&out)
    );
    Ok(out)
}

fn masked(names: &[&str], form: Form, input: &str) -> String {
    let set = masks().union(names.iter().copied()).expect("sets");
    try_masked(&set, &form, input.as_bytes()).expect("readable")
}

#[test]
fn sets_of_the_configuration() {
    let masks = own(r#"
        name = "customers"
        mode = "keep-last4"
        detectors = ["email"]
        fields = ["customer.*.name", "x-badge"]
        literals = ["Project Falcon"]
        [regexes]
        badge = "EMP-([0-9]{6})"
        "#);
    assert!(masks.knows("customers") && masks.knows("pii") && !masks.knows("other"));
    assert_eq!(
        masks.union(["other"]).expect_err("unknown"),
        UnknownSet("other".into())
    );
    let set = masks.union(["customers"]).expect("the set");
    let input = r#"{"customer":[{"a":{"name":"Jane von Example"}}],"name":"x","t":"Project Falcon, EMP-123456, jane.doe@example.com"}"#;
    assert_eq!(
        try_masked(&set, &Form::Json, input.as_bytes()).as_deref(),
        Ok(
            r#"{"customer":[{"a":{"name":"[masked:customers:..mple]"}}],"name":"x","t":"[masked:customers:..lcon], EMP-[masked:badge], [masked:email:.._com]"}"#
        )
    );
    assert_eq!(
        set.value("X-Badge", "a badge, long"),
        "[masked:customers:..long]"
    );
    assert_eq!(set.value("other", "a badge, long"), "a badge, long");
}

#[test]
fn equal_values_stay_equal() {
    let set = own("name = \"h\"\nmode = \"hash\"\ndetectors = [\"pii\"]")
        .union(["h"])
        .expect("the set");
    let masked = |text: &str| set.value("x", text).into_owned();
    assert_eq!(masked("a@b.de"), masked("A@B.de"));
    assert_eq!(masked("4111 1111 1111 1111"), masked("4111111111111111"));
    assert_ne!(masked("a@b.de"), masked("b@b.de"));
    let other_host = Masks::new(
        &[source(
            "name = \"h\"\nmode = \"hash\"\ndetectors = [\"pii\"]",
        )],
        [8; 32],
    )
    .expect("a set");
    assert_ne!(
        masked("a@b.de"),
        other_host
            .union(["h"])
            .expect("the set")
            .value("x", "a@b.de")
    );
}

#[test]
fn the_stricter_mode_wins() {
    let set = own("name = \"h\"\nmode = \"hash\"\ndetectors = [\"email\"]")
        .union(["h", "pii"])
        .expect("the sets");
    assert_eq!(set.value("x", "a@b.de"), "[masked:email]");
    let set = own("name = \"d\"\nmode = \"drop\"\ndetectors = [\"email\"]")
        .union(["d", "pii"])
        .expect("the sets");
    assert_eq!(set.value("x", "to a@b.de!"), "to !");
}

#[test]
fn sets_that_cannot_be_are_refused() {
    let refused = |toml: &str| {
        Masks::new(&[source(toml)], [0; 32])
            .err()
            .expect("refused")
            .to_string()
    };
    assert!(refused("name = \"pii\"").contains("already"));
    assert!(refused("name = \"a b\"").contains("no name"));
    assert!(refused("name = \"a\"\ndetectors = [\"emial\"]").contains("email"));
    assert!(refused("name = \"a\"\nfields = [\"a..b\"]").contains("a..b"));
    assert!(refused("name = \"a\"\nregexes = { x = \"(\" }").contains("regex `x`"));
    assert!(refused("name = \"a\"\nregexes = { x = '\\w{1000}{1000}' }").contains("regex `x`"));
    assert!(refused("name = \"a\"\nliterals = [\"abc\"]").contains("four bytes"));
    assert!(toml::from_str::<SetSource>("name = \"a\"\nunknown = 1").is_err());
}

#[test]
fn what_was_injected_is_masked_in_every_dress() {
    let secret = Zeroizing::new(b"p+w/rd:12 34".to_vec());
    let set = masks()
        .union([])
        .expect("nothing")
        .and_literals([secret.clone()]);
    assert!(!set.is_empty());
    let text = String::from_utf8(secret.to_vec()).expect("UTF-8");
    let set = set.and_literals([Zeroizing::new(b"abc".to_vec())]);
    for before in ["", "x", "xy", "xyz"] {
        let encoded = BASE64_STANDARD.encode(format!("{before}{text}{before}"));
        assert!(
            set.value("x", &encoded).contains("[masked:injected]"),
            "{before}"
        );
    }
    assert_eq!(
        set.value("x", &format!("a {text} b")),
        "a [masked:injected] b"
    );
    let encoded = percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
    assert_eq!(set.value("x", &encoded), "[masked:injected]");
    assert_eq!(
        set.value("x", "an abc, not abcd"),
        "an [masked:injected], not abcd"
    );
    assert!(!format!("{set:?}").contains("rd:12"));
}

#[test]
fn headers_and_parameters() {
    let set = masks().union(["secrets", "pii"]).expect("the sets");
    assert_eq!(
        set.value("Authorization", "Bearer x"),
        "[masked:secret-field]"
    );
    assert_eq!(set.value("upload_id", "abc"), "[masked:secret-field]");
    assert_eq!(set.value("pageToken", "abc"), "abc");
    assert_eq!(
        set.value("X-Link", "https://u:pw@h/?a"),
        "https://u:[masked:connection-password]@h/?a"
    );
    assert_eq!(set.value("phone", "030 12345"), "[masked:phone]");
    let masked = set.value("Authorization", "[masked:secret-field]");
    assert_eq!(masked, "[masked:secret-field]", "is not masked again");
}

#[test]
fn fields_have_names_in_some_forms_only() {
    let minted = masks().union(["minted", "pii"]).expect("the sets");
    assert!(minted.sees_minted(&Form::Json) && minted.sees_minted(&Form::Xml));
    assert!(!minted.sees_minted(&Form::Text) && !minted.sees_minted(&Form::Grpc));
    let secrets = masks().union(["secrets"]).expect("the set");
    assert!(secrets.sees_minted(&Form::Text));
}

#[test]
fn what_was_masked_is_known_when_it_comes_back() {
    let out = masked(&["secrets"], Form::Json, r#"{"password":"x"}"#);
    assert!(mask_token_in(out.as_bytes()).is_some());
    let out = masked(
        &["minted"],
        Form::Json,
        r#"{"payload":{"data":"c2VjcmV0"}}"#,
    );
    assert!(mask_token_in(out.as_bytes()).is_some(), "{out}");
}
