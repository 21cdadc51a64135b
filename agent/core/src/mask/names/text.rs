//! Bodies for people's eyes, without the secrets that names in them give away.
//!
//! The last look after the masks that everything goes through, and wider than those: by names that only may be a secret's, since a guess too many costs
//! nothing where nobody works with what is shown; where values are cut off from their names; and what is sent to be kept secret.
//!
//! Read leniently: a body that is cut, wrapped in another format or no good JSON is masked as far as it can be read, and nothing
//! else in it is touched, so that reviewers see what is sent.

use std::{collections::BTreeMap, ops::Range};

use percent_encoding::percent_decode_str;

use super::{MASKED, is_what_a_pair_is_called, names_a_secret};

/// Texts within texts that are looked into (JSON in a string of JSON); what lies deeper is left out.
const DEEPEST: usize = 4;
/// In methods that deal in secrets these hold them (Secret Manager, KMS).
const OF_SECRET_METHODS: [&str; 3] = ["data", "payload", "plaintext"];

/// `text` with [`MASKED`] in place of secrets: values of fields, in JSON at any depth and in JSON within strings of JSON; of
/// named values (`{"key": ..., "value": ...}`); of parameters of forms and URLs and of assignments in scripts; of header lines.
/// `of_secrets`: it is sent to a method that deals in secrets.
#[must_use]
pub fn masked(text: &str, of_secrets: bool) -> String {
    Masking::new(text, of_secrets, 0).run()
}

struct Masking<'a> {
    text: &'a str,
    at: usize,
    of_secrets: bool,
    nested: usize,
    open: Vec<Frame>,
    /// What stands instead, by where it begins.
    instead: BTreeMap<usize, (usize, String)>,
    /// An assignment to a secret is what came last.
    assigned: bool,
}

/// An object or array that is open.
#[derive(Default)]
struct Frame {
    is_object: bool,
    is_secret: bool,
    /// It is, or is in, the value of a pair in the frame around it.
    is_value: bool,
    key: Option<String>,
    wants_key: bool,
    /// What it is called names a secret.
    is_named: bool,
    /// Values that are secret if it is.
    values: Vec<Range<usize>>,
}

impl<'a> Masking<'a> {
    fn new(text: &'a str, of_secrets: bool, nested: usize) -> Self {
        Self {
            text,
            at: 0,
            of_secrets,
            nested,
            open: Vec::new(),
            instead: BTreeMap::new(),
            assigned: false,
        }
    }

    fn run(mut self) -> String {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match (byte, self.open.is_empty()) {
                (b'{' | b'[', _) => self.enter(byte == b'{'),
                (_, true) => self.take(|text| text.find(['{', '['])),
                (b'}' | b']', _) => self.leave(true),
                (b',', _) => self.next_entry(),
                (b':' | b' ' | b'\t' | b'\r' | b'\n', _) => self.at += 1,
                (b'"', _) => self.string(),
                _ => self.take(|text| {
                    text.find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c))
                }),
            }
        }
        // What it would have been called is cut off.
        while !self.open.is_empty() {
            self.leave(false);
        }
        self.finish()
    }

    fn finish(self) -> String {
        let mut shown = String::with_capacity(self.text.len());
        let mut done = 0;
        for (start, (end, instead)) in self.instead {
            shown.push_str(&self.text[done..start]);
            shown.push_str(&instead);
            done = end;
        }
        shown.push_str(&self.text[done..]);
        shown
    }

    fn enter(&mut self, is_object: bool) {
        self.at += 1;
        let around = self.open.last();
        let frame = Frame {
            is_object,
            wants_key: is_object,
            is_secret: around.is_some_and(|it| it.hides(self.of_secrets)),
            is_value: around.is_some_and(Frame::holds_a_value),
            ..Frame::default()
        };
        self.open.push(frame);
    }

    fn leave(&mut self, is_whole: bool) {
        self.at += usize::from(is_whole);
        let Some(frame) = self.open.pop() else {
            return;
        };
        if frame.is_named || !is_whole {
            frame.values.into_iter().for_each(|it| self.hide(it));
        } else if frame.is_value
            && let Some(around) = self.open.last_mut()
        {
            around.values.extend(frame.values);
        }
    }

    fn next_entry(&mut self) {
        self.at += 1;
        if let Some(frame) = self.open.last_mut() {
            frame.wants_key = frame.is_object;
            frame.key = None;
        }
    }

    fn hide(&mut self, place: Range<usize>) {
        let masked = format!("\"{MASKED}\"");
        self.instead.insert(place.start, (place.end, masked));
    }

    fn string(&mut self) {
        let place = self.at..self.at + end_of_string(&self.text[self.at..]);
        self.at = place.end;
        let raw = &self.text[place.clone()];
        let text = serde_json::from_str(raw).unwrap_or_else(|_| raw.replace('"', ""));
        let of_secrets = self.of_secrets;
        let is_assigned = std::mem::take(&mut self.assigned);
        let Some(frame) = self.open.last_mut() else {
            return;
        };
        if frame.wants_key && !is_assigned {
            frame.key = Some(text);
            frame.wants_key = false;
            return;
        }
        if frame.is_its_name() {
            frame.is_named |= names_a_secret(&text);
        }
        if frame.holds_a_value() {
            frame.values.push(place.clone());
        }
        if frame.hides(of_secrets) || is_assigned {
            return self.hide(place);
        }
        if self.nested == DEEPEST {
            // JSON in JSON in JSON: nobody's way of saying something to a reviewer.
            if text.contains(['{', '=', ':']) {
                self.hide(place);
            }
            return;
        }
        let within = Masking::new(&text, of_secrets, self.nested + 1).run();
        if within != text {
            let quoted = serde_json::Value::from(within).to_string();
            self.instead.insert(place.start, (place.end, quoted));
        }
    }

    /// Text outside of strings, as far as `end` finds: numbers and the like; words of another format.
    fn take(&mut self, end: impl Fn(&str) -> Option<usize>) {
        let rest = &self.text[self.at..];
        let place = self.at..self.at + end(rest).unwrap_or(rest.len());
        self.at = place.end;
        let text = &self.text[place.clone()];
        self.assigned = text.strip_suffix('=').is_some_and(ends_in_a_secrets_name);
        if let Some(frame) = self.open.last_mut() {
            if text == "null" {
                return;
            }
            if frame.holds_a_value() {
                frame.values.push(place.clone());
            }
            if frame.hides(self.of_secrets) {
                return self.hide(place);
            }
        }
        let within = assignments(text);
        if within != text {
            self.instead.insert(place.start, (place.end, within));
        }
    }
}

impl Frame {
    fn hides(&self, of_secrets: bool) -> bool {
        let key = self.key.as_deref().unwrap_or_default();
        self.is_secret
            || (names_a_secret(key) && !is_what_a_pair_is_called(key))
            || (of_secrets && OF_SECRET_METHODS.contains(&key))
    }

    fn is_its_name(&self) -> bool {
        matches!(self.key.as_deref(), Some("key" | "name"))
    }

    fn holds_a_value(&self) -> bool {
        let key = self.key.as_deref().unwrap_or_default();
        self.is_value || key.to_ascii_lowercase().contains("value")
    }
}

/// The length of the string that `text` begins with, its quotes included; to the end where it has none.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// Masks what is assigned to names of secrets: `password=x`, `TOKEN="x y"`, `a=b&client_secret=x`, and lines `Authorization: x`.
fn assignments(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.split_once(':') {
            Some((name, value)) if is_a_secrets_line(name) && !value.trim().is_empty() => {
                let end = if line.ends_with('\n') { "\n" } else { "" };
                shown.extend([name, ": ", MASKED, end]);
            }
            _ => in_line(line, &mut shown),
        }
    }
    shown
}

fn is_a_secrets_line(name: &str) -> bool {
    let name = name.trim();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars().all(is_word) && names_a_secret(name) && !is_what_a_pair_is_called(name)
}

fn in_line(line: &str, shown: &mut String) {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        shown.push_str(before);
        shown.push('=');
        rest = after;
        let length = length_of_value(after);
        if length > 0 && ends_in_a_secrets_name(before) {
            shown.push_str(MASKED);
            rest = &after[length..];
        }
    }
    shown.push_str(rest);
}

fn ends_in_a_secrets_name(text: &str) -> bool {
    let is_no_part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '%'));
    let name = text.rsplit(is_no_part).next().unwrap_or_default();
    names_a_secret(&percent_decode_str(name).decode_utf8_lossy())
}

fn length_of_value(text: &str) -> usize {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => match text[1..].find(quote) {
            Some(end) => end + 2,
            None => text.trim_end().len(),
        },
        _ => {
            let is_end = |c: char| c.is_whitespace() || "&;\"'`<>(){}".contains(c);
            text.find(is_end).unwrap_or(text.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn shown(body: &Value) -> Value {
        serde_json::from_str(&masked(&body.to_string(), false)).expect("still JSON")
    }

    #[test]
    fn fields_are_masked_wherever_they_lie() {
        let body = json!({
            "rootPassword": "hunter1", "count": 1, "none": null,
            "users": [{"name": "u", "password": ["hunter2", 3, {"x": "hunter4"}, null]}],
            "metadata": {"items": [
                {"key": "db-password", "value": "hunter5"},
                {"value": "hunter6", "key": "api_token"},
                {"key": "zone", "value": "a"},
                {"name": "SIGNING_SECRET", "values": ["hunter7", {"deep": "hunter8"}]},
            ]},
        });
        assert_eq!(
            shown(&body),
            json!({
                "rootPassword": MASKED, "count": 1, "none": null,
                "users": [{"name": "u", "password": [MASKED, MASKED, {"x": MASKED}, null]}],
                "metadata": {"items": [
                    {"key": "db-password", "value": MASKED},
                    {"value": MASKED, "key": "api_token"},
                    {"key": "zone", "value": "a"},
                    {"name": "SIGNING_SECRET", "values": [MASKED, {"deep": MASKED}]},
                ]},
            })
        );
    }

    #[test]
    fn strings_that_hold_something_are_looked_into() {
        let inner = json!({"auths": {"x": {"token": "hunter1"}}, "a": "b"}).to_string();
        let script = "#!/bin/sh\nexport DB_PASSWORD='hunter 2' A=b\ncurl -H x \"https://h/?access_token=hunter3&b=c\"\n\
                      cat <<E\npassword: hunter4\nE\n";
        let body = json!({"items": [{"key": "startup-script", "value": script}, {"key": "config", "value": inner}]});
        let shown = shown(&body).to_string();
        assert!(!shown.contains("hunter"), "{shown}");
        for kept in [
            "export DB_PASSWORD=",
            " A=b\\n",
            "&b=c",
            "#!/bin/sh",
            r#"\"a\":\"b\""#,
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let mut deep = json!({"password": "hunter"}).to_string();
        for _ in 0..8 {
            deep = json!({ "x": deep }).to_string();
        }
        assert!(!masked(&deep, false).contains("hunter"));
    }

    #[test]
    fn forms_batches_and_broken_bodies_are_masked_too() {
        for (body, expected) in [
            (
                "a=b&client_secret=hunter&c=d",
                "a=b&client_secret=[masked]&c=d",
            ),
            ("client%5Fsecret=hunter", "client%5Fsecret=[masked]"),
            (
                "--x\r\nAuthorization: Bearer hunter\r\n\r\n{\"password\":\"hunter\"}\r\n--x--",
                "--x\r\nAuthorization: [masked]\n\r\n{\"password\":\"[masked]\"}\r\n--x--",
            ),
            (
                r#"{"password":"hunter","password":7} x"#,
                r#"{"password":"[masked]","password":"[masked]"} x"#,
            ),
            (r#"{"password":"hun"#, r#"{"password":"[masked]""#),
            (r#"{"a":[{"value":"hun"#, r#"{"a":[{"value":"[masked]""#),
            (
                r#"{"pass\u0077ord":"hunter"}"#,
                r#"{"pass\u0077ord":"[masked]"}"#,
            ),
            ("x { TOKEN=\"hunter\" }", "x { TOKEN=\"[masked]\" }"),
        ] {
            assert_eq!(masked(body, false), expected);
        }
    }

    #[test]
    fn what_is_sent_to_keep_a_secret_is_one() {
        let body = r#"{"payload":{"data":"aHVudGVy"},"replication":{"automatic":{}}}"#;
        assert_eq!(masked(body, false), body);
        assert_eq!(
            masked(body, true),
            r#"{"payload":{"data":"[masked]"},"replication":{"automatic":{}}}"#
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Into::into),
            "(?s)[^=:{\\[]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-e]{1,2}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn texts(json: &Value) -> Vec<String> {
        match json {
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(map) => map.values().flat_map(texts).collect(),
            Value::Null => Vec::new(),
            other => vec![other.to_string()],
        }
    }

    proptest! {
        #[test]
        fn what_names_no_secret_is_untouched(json in any_json()) {
            for text in [json.to_string(), serde_json::to_string_pretty(&json).expect("JSON")] {
                prop_assert_eq!(masked(&text, false), text);
            }
        }

        #[test]
        fn nothing_of_a_secret_is_left(secret in any_json(), other in any_json(), end in 0_usize..400) {
            let body = json!({"a": [{"passwords": secret}], "b": {"value": secret, "key": "TOKEN"}, "o": other}).to_string();
            let hidden = masked(&body, false);
            let parsed: Value = serde_json::from_str(&hidden).expect("still JSON");
            for place in [&parsed["a"][0]["passwords"], &parsed["b"]["value"]] {
                prop_assert!(texts(place).iter().all(|it| it == "\"[masked]\""), "{}", place);
            }
            prop_assert_eq!(&parsed["o"], &other);
            // Nor when it is cut anywhere.
            let cut = body.char_indices().nth(end).map_or(body.as_str(), |(at, _)| &body[..at]);
            let _ = masked(cut, false);
        }

        #[test]
        fn any_text_can_be_masked(text in "(?s)[a-z\"'{}\\[\\]:,=&\\\\ \n\u{e9}]{0,80}|(?s).{0,60}", secrets in any::<bool>()) {
            let once = masked(&text, secrets);
            prop_assert!(once.len() <= 12 * text.len());
        }

        #[test]
        fn a_parameter_of_a_form_is_hidden(value in "[a-z0-9%.+-]{1,20}") {
            let text = masked(&format!("x=1&refresh_token={value}&y=2"), false);
            prop_assert_eq!(text, "x=1&refresh_token=[masked]&y=2");
        }
    }
}
