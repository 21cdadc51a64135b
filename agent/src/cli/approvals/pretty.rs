//! JSON bodies in a readable form that hides nothing.

use serde::de::IgnoredAny;

/// JSON with line breaks and indentation, anything else as it is. Only white space between tokens changes: parsing
/// and printing it again would drop all but one of two fields of one name, and a reviewer has to see both.
pub(super) fn readable(body: &str) -> String {
    if serde_json::from_str::<IgnoredAny>(body).is_err() {
        return body.to_owned();
    }
    let mut printer = Printer::default();
    for character in body.chars() {
        printer.take(character);
    }
    printer.text
}

#[derive(Default)]
struct Printer {
    text: String,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Just after an opening bracket: an empty pair stays together.
    opened: bool,
}

impl Printer {
    fn take(&mut self, character: char) {
        if self.in_string {
            return self.take_in_string(character);
        }
        match character {
            ' ' | '\t' | '\n' | '\r' => return,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                if !self.opened {
                    self.new_line();
                }
            }
            _ if self.opened => self.new_line(),
            _ => {}
        }
        self.text.push(character);
        self.opened = matches!(character, '{' | '[');
        match character {
            '{' | '[' => self.depth += 1,
            ',' => self.new_line(),
            ':' => self.text.push(' '),
            '"' => self.in_string = true,
            _ => {}
        }
    }

    fn take_in_string(&mut self, character: char) {
        self.text.push(character);
        if self.escaped {
            self.escaped = false;
        } else if character == '\\' {
            self.escaped = true;
        } else if character == '"' {
            self.in_string = false;
        }
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.text.push_str(&"  ".repeat(self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "(?s).{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("(?s).{0,4}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_as_the_usual_pretty_form(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(&readable(&value.to_string()), &pretty);
            prop_assert_eq!(readable(&pretty), pretty);
        }
    }

    #[test]
    fn a_second_field_of_the_same_name_is_seen() {
        let shown = readable(r#"{"a":1,"a":2.50}"#);
        assert_eq!(shown, "{\n  \"a\": 1,\n  \"a\": 2.50\n}");
        assert_eq!(readable("a=b&c"), "a=b&c");
    }
}
