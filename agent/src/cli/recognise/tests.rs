use super::*;

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/corpus/gcp-clients.jsonl"
);

fn judge() -> Judge {
    Judge {
        sql: false,
        policies: None,
        principal: Principal {
            issuer: "i".into(),
            subject: "s".into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        },
    }
}

fn lines(input: &str) -> (Vec<serde_json::Value>, usize) {
    let mut output = Vec::new();
    let bad = judge_lines(&judge(), input.as_bytes(), &mut output).expect("a vector takes it");
    let lines = output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    (
        lines
            .map(|line| serde_json::from_slice(line).expect("it is JSON"))
            .collect(),
        bad,
    )
}

#[test]
fn the_corpus_gives_a_line_for_each_row_in_order() {
    let corpus = std::fs::read_to_string(CORPUS).expect("the corpus is committed");
    let (answers, bad) = lines(&corpus);
    assert_eq!((answers.len(), bad), (corpus.lines().count(), 0));
    for (row, answer) in corpus.lines().zip(answers) {
        let row: serde_json::Value = serde_json::from_str(row).expect("it is JSON");
        match row["kind"].as_str() {
            Some("rest") => assert_eq!(answer["action"], row["discovery"]["id"]),
            Some("metadata") => {
                assert_eq!(
                    (&answer["action"], &answer["decision"]),
                    (&METADATA.into(), &"allow".into())
                );
            }
            Some("kubernetes") => assert_eq!(answer["action"], Action::NET_CONNECT),
            Some("batch") => {
                let ids =
                    |parts: &serde_json::Value,
                     key: fn(&serde_json::Value) -> &serde_json::Value| {
                        let parts = parts.as_array().expect("it is a list");
                        parts
                            .iter()
                            .map(|part| key(part).clone())
                            .collect::<Vec<_>>()
                    };
                assert_eq!(
                    ids(&answer["parts"], |part| &part["action"]),
                    ids(&row["batch_parts"], |part| &part[2])
                );
            }
            _ => assert!(answer["action"].is_string()),
        }
    }
}

#[test]
fn bad_lines_are_answered_in_their_place() {
    let good = r#"{"method":"GET","host":"storage.googleapis.com","path":"/storage/v1/b/bkt","body_len":0}"#;
    let input = format!("nonsense\n{good}\n[]\n\n{{\"method\":1}}\n");
    let (answers, bad) = lines(&input);
    assert_eq!((answers.len(), bad), (4, 3));
    assert_eq!(answers[1]["action"], "storage.buckets.get");
    assert!(
        [0, 2, 3]
            .iter()
            .all(|place: &usize| answers[*place]["error"].is_string())
    );
}

#[test]
fn malformed_requests_are_denied_without_any_policy() {
    let (answers, bad) =
        lines(r#"{"method":"GET","host":"storage.googleapis.com","path":"/storage/v1//b"}"#);
    assert_eq!((answers[0]["decision"].as_str(), bad), (Some("deny"), 0));
}
