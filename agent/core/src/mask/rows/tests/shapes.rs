//! Planted secrets anywhere, and bytes of all kinds: nothing gets through, and what comes out has the same shape.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The value, as one of a type: its OID, format, bytes.
fn dressed(value: &str, dress: usize) -> (u32, i16, Vec<u8>) {
    let raw = value.as_bytes();
    let json = serde_json::to_string(&serde_json::json!({"a": [1, {"b": value}]})).expect("JSON");
    let in_array = |element: u32, value: &[u8]| {
        let mut array = Vec::new();
        for int in [1_u32, 0, element, 2, 1] {
            array.extend_from_slice(&int.to_be_bytes());
        }
        array.extend_from_slice(&row(&[Some(value), None])[2..]);
        array
    };
    let in_record = |oid: u32, value: &[u8]| {
        let mut record = 1_u32.to_be_bytes().to_vec();
        record.extend_from_slice(&oid.to_be_bytes());
        record.extend_from_slice(&row(&[Some(value)])[2..]);
        record
    };
    match dress {
        0 => (25, 0, raw.to_vec()),
        1 => (1043, 1, raw.to_vec()),
        2 => (114, 0, json.into_bytes()),
        3 => (3802, 1, [&[1], json.as_bytes()].concat()),
        4 => (17, 1, [&[0xff, 0], raw, &[0xfe]].concat()),
        5 => (17, 0, format!("\\x00{}", hex::encode(value)).into_bytes()),
        6 => (
            1009,
            0,
            format!("{{a,{},NULL}}", quoted(value)).into_bytes(),
        ),
        7 => (1009, 1, in_array(25, raw)),
        8 => (2249, 1, in_record(25, raw)),
        9 => (99_999, 1, in_record(1009, &in_array(25, raw))),
        10 => (
            2249,
            0,
            format!(
                "(1,\"{}\",)",
                value.replace('\\', "\\\\").replace('"', "\"\"")
            )
            .into_bytes(),
        ),
        11 => (
            99_999,
            0,
            format!("\"k\"=>{}, \"n\"=>NULL", quoted(value)).into_bytes(),
        ),
        12 => {
            let mut hstore = 1_u32.to_be_bytes().to_vec();
            hstore.extend_from_slice(&row(&[Some(b"k"), Some(raw)])[2..]);
            (99_999, 1, hstore)
        }
        13 => (99_999, 1, raw.to_vec()),
        14 => (
            142,
            0,
            format!("<a>{}</a>", value.replace('<', "&lt;")).into_bytes(),
        ),
        _ => (3807, 1, in_array(3802, &[&[1], json.as_bytes()].concat())),
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
        || memchr::memmem::find(bytes, hex::encode(text).as_bytes()).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_planted_secret_comes_through(
        before in "[ -~\n]{0,12}", after in "[ -~\n]{0,12}",
        dresses in prop::collection::vec(prop::option::of(0..16_usize), 1..6),
        names in prop::collection::vec("(id|note|payload)", 6),
    ) {
        let set = set(TOML, &["secrets"]);
        let planted = format!("{before} {SECRET} {after}");
        let dressed: Vec<_> = dresses.iter().map(|dress| dress.map(|dress| dressed(&planted, dress))).collect();
        let columns: Vec<Column> = dressed.iter().zip(&names).map(|(value, name)| {
            let (oid, format) = value.as_ref().map_or((25, 0), |(oid, format, _)| (*oid, *format));
            column(name, oid, format)
        }).collect();
        let body = row(&dressed.iter().map(|value| value.as_ref().map(|(.., value)| value.as_slice())).collect::<Vec<_>>());
        let mut masker = RowMasker::new(set, &columns, Some("SELECT"));
        let mut out = Vec::new();
        masker.row(&body, &mut out).expect("all of these can be masked");
        prop_assert!(!holds(&out, SECRET), "{}", String::from_utf8_lossy(&out));
        let masked = values(&out);
        prop_assert_eq!(masked.len(), dressed.len());
        for (masked, original) in masked.iter().zip(&dressed) {
            prop_assert_eq!(masked.is_none(), original.is_none());
        }
        // What is masked is masked: again, nothing changes.
        let mut again = Vec::new();
        masker.row(&out, &mut again).expect("it is a row");
        prop_assert_eq!(out, again);
    }

    #[test]
    fn a_rule_for_a_column_leaves_nothing_of_it(dress in 0..16_usize) {
        let set = set(TOML, &["own"]);
        let (oid, format, value) = dressed("what nobody may see", dress);
        let mut masker = RowMasker::new(set, &[column("whole", oid, format)], Some("SELECT"));
        let mut out = Vec::new();
        masker.row(&row(&[Some(&value)]), &mut out).expect("it can be masked");
        prop_assert!(!holds(&out, "nobody may"), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn any_bytes_of_any_type_are_masked_or_refused(
        value in prop::collection::vec(any::<u8>(), 0..60),
        oid in prop::sample::select(vec![16_u32, 17, 18, 20, 21, 23, 25, 114, 600, 650, 700, 869, 1009, 1082, 1114, 1231, 1560, 1700, 2249, 2950, 3614, 3802, 3904, 4451, 99_999]),
        format in 0..2_i16, name in "(whole|password|note)",
    ) {
        let set = set(TOML, &["own", "secrets", "pii"]);
        let mut masker = RowMasker::new(set, &[column(&name, oid, format), column("n", 25, 0)], None);
        let mut out = Vec::new();
        if masker.row(&row(&[Some(&value), None]), &mut out).is_ok() {
            let out = values(&out);
            prop_assert_eq!(out.len(), 2);
            prop_assert!(out[0].is_some() && out[1].is_none());
        } else {
            prop_assert!(out.is_empty());
        }
    }
}
