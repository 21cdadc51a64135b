mod leaks;
mod random;

use super::*;

fn masks() -> Masks {
    Masks::new(&[], [7; 32]).expect("built-in sets")
}

fn masked(names: &[&str], form: Form, input: &str) -> String {
    let set = masks().union(names.iter().copied()).expect("sets");
    let mut masker = Masker::new(set, form);
    let mut out = Vec::new();
    masker.push(input.as_bytes(), &mut out).expect("readable");
    masker.finish(&mut out).expect("all there");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn secrets_in_json() {
    let key = "AIzaSyA1234567890abcdefghijklmnopqrstuv";
    let input = format!(
        r#"{{"a": [1, "see {key} there"], "password" : "x", "b": "\u0041Iza{}", "{key}": null}}"#,
        &key[4..]
    );
    assert_eq!(
        masked(&["secrets"], Form::Json, &input),
        r#"{"a": [1, "see [masked:google-api-key] there"], "password" : "[masked:secret-field]", "b": "[masked:google-api-key]", "[masked:google-api-key]": null}"#
    );
}
