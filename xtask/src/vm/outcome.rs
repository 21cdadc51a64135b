//! What a machine has told. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::test::report::Counts;

/// What a machine runs, in guest.sh: all of it, or something has gone wrong.
const PARTS: [&str; 3] = ["programs", "job", "doctor"];

/// All of it, line by line.
#[derive(Debug, Default)]
pub struct Outcome {
    facts: BTreeMap<String, String>,
    parts: Vec<Part>,
    done: bool,
}

#[derive(Debug)]
struct Part {
    name: String,
    lines: Vec<String>,
    /// None while it runs.
    status: Option<i32>,
}

impl Outcome {
    /// Takes in one more line. What comes once it is done is said by whatever ends with the machine.
    pub fn line(&mut self, line: &str) {
        if self.done {
            return;
        }
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("begin"), Some(name), None) => self.parts.push(Part {
                name: name.to_owned(),
                lines: Vec::new(),
                status: None,
            }),
            (Some("end"), Some(name), Some(status)) if self.runs(name) => {
                if let Some(part) = self.parts.last_mut() {
                    part.status = status.parse().ok();
                }
            }
            (Some("fact"), Some(name), Some(value)) => {
                self.facts.insert(name.to_owned(), value.to_owned());
            }
            (Some("done"), None, None) => self.done = true,
            _ => {
                if let Some(part) = self.parts.last_mut() {
                    part.lines.push(line.to_owned());
                }
            }
        }
    }

    fn runs(&self, name: &str) -> bool {
        let last = self.parts.last();
        last.is_some_and(|part| part.name == name && part.status.is_none())
    }

    fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether all parts ran to their end, and well.
    pub fn is_good(&self) -> bool {
        let good = |name: &&str| self.part(name).is_some_and(|part| part.status == Some(0));
        self.done && PARTS.iter().all(good) && self.attacks().is_some()
    }

    /// What was printed about single tests.
    pub fn tests(&self) -> Vec<String> {
        let lines = self.parts.iter().flat_map(|part| &part.lines);
        lines.cloned().collect()
    }

    /// How the tests of a part came out.
    pub fn counts(&self, part: &str) -> Counts {
        self.part(part)
            .map_or_else(Counts::default, |part| Counts::of(&part.lines))
    }

    /// What the doctor found.
    pub fn attacks(&self) -> Option<Attacks> {
        let text = self.part("doctor")?.lines.join("\n");
        let rows: Rows = serde_json::from_str(text.get(text.find('{')?..)?.trim()).ok()?;
        let mut attacks = Attacks::default();
        for row in rows.attacks {
            match row.verdict.as_str() {
                "contained" => attacks.contained += 1,
                "not-here" => attacks.not_here.push(row.attack),
                "works" => {}
                verdict => attacks.bad.push(format!("{}: {verdict}", row.attack)),
            }
        }
        Some(attacks)
    }

    /// Something it said about itself.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("?", String::as_str)
    }
}

/// What the doctor found, in short.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attacks {
    /// How many work outside of a sandbox and not inside.
    pub contained: usize,
    /// Those that this kernel cannot do at all.
    pub not_here: Vec<String>,
    /// Those that got out, or prove nothing.
    pub bad: Vec<String>,
}

/// `holdpoint doctor --output json`, as far as it matters.
#[derive(Deserialize)]
struct Rows {
    attacks: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    attack: String,
    verdict: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "\
fact kernel 6.1.192-2
begin programs
test a ... ok
test b ... ok

end programs 0
begin job
running 2 tests
test c ... ok
end of a sentence
test d ... ignored

end job 0
begin doctor
a warning
{
  \"attacks\": [
    {\"attack\": \"tcp4\", \"verdict\": \"contained\"},
    {\"attack\": \"x32\", \"verdict\": \"not-here\"},
    {\"attack\": \"allowed-read\", \"verdict\": \"works\"}
  ]
}
end doctor 0
done";

    fn told(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        text.lines().for_each(|line| outcome.line(line));
        outcome
    }

    #[test]
    fn reads_what_a_machine_tells() {
        let outcome = told(&format!("{ALL}\n\nSession terminated, killing shell..."));
        assert!(outcome.is_good(), "{outcome:?}");
        assert_eq!(outcome.fact("kernel"), "6.1.192-2");
        assert_eq!(outcome.counts("programs").passed, 2);
        assert_eq!(outcome.counts("job").ignored, 1);
        let attacks = outcome.attacks().expect("attacks");
        assert_eq!((attacks.contained, attacks.not_here.len()), (1, 1));
        assert_eq!(attacks.bad, Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_no_success() {
        for line in ["done", "end doctor 0", "end job 0", "begin programs", "{"] {
            let without: Vec<_> = ALL.lines().filter(|it| *it != line).collect();
            assert!(!told(&without.join("\n")).is_good(), "without {line}");
        }
        assert!(!told(&ALL.replace("end programs 0", "end programs 1")).is_good());
        let broken = told(&ALL.replace("contained", "got-out"));
        assert_eq!(broken.attacks().expect("attacks").bad, ["tcp4: got-out"]);
    }
}
