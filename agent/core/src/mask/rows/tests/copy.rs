//! `COPY` data, in pieces of every length.

use proptest::prelude::*;

use super::*;

fn copied(
    format: &CopyFormat,
    columns: &[Column],
    data: &[u8],
    piece: usize,
) -> Result<Vec<u8>, Unreadable> {
    let set = set(TOML, &["own", "secrets", "pii"]);
    let mut masker = CopyMasker::new(set, columns, Some("COPY t TO STDOUT"), format.clone());
    let mut out = Vec::new();
    for piece in data.chunks(piece) {
        masker.push(piece, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok(out)
}

fn both(format: &CopyFormat, columns: &[Column], data: &str) -> String {
    let whole = copied(format, columns, data.as_bytes(), usize::MAX).expect("data");
    for piece in [1, 2, 7] {
        let pieces = copied(format, columns, data.as_bytes(), piece).expect("data");
        assert_eq!(pieces, whole, "in pieces of {piece}");
    }
    String::from_utf8(whole).expect("UTF-8")
}

#[test]
fn text_keeps_its_rows_and_fields() {
    let columns = [
        column("id", 0, 0),
        column("ssn", 0, 0),
        column("note", 0, 0),
    ];
    let data = "1\t123\tcall jane@example.com\\tor\\\\not\n\\N\t\\N\t\\N\n2\t2020-01-02\tclean\n";
    assert_eq!(
        both(&CopyFormat::text(), &columns, data),
        "1\t0\tcall [masked:email]\\tor\\\\not\n\\N\t\\N\t\\N\n2\t2000-01-01\tclean\n"
    );
}

#[test]
fn csv_keeps_its_rows_and_fields() {
    let columns = [
        column("id", 0, 0),
        column("ssn", 0, 0),
        column("note", 0, 0),
    ];
    let format = CopyFormat::Csv {
        delimiter: b',',
        quote: b'"',
        escape: b'"',
        null: Vec::new(),
        header: true,
    };
    let data = "id,ssn,note\n1,\"a,b\",\"say \"\"hi\"\"\njane@example.com\"\n2,,\"\"\n";
    assert_eq!(
        both(&format, &columns, data),
        "id,ssn,note\n1,[masked:own],\"say \"\"hi\"\"\n[masked:email]\"\n2,,\"\"\n"
    );
}

fn binary_data(rows: &[Vec<u8>]) -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02xx".to_vec();
    rows.iter().for_each(|row| data.extend_from_slice(row));
    data.extend_from_slice(&[0xff, 0xff]);
    data
}

#[test]
fn binary_keeps_its_rows_and_fields() {
    let columns = [column("id", 23, 1), column("note", 25, 1)];
    let data = binary_data(&[
        row(&[Some(&[0, 0, 0, 1]), Some(b"jane@example.com")]),
        row(&[None, None]),
    ]);
    let wanted = binary_data(&[
        row(&[Some(&[0, 0, 0, 1]), Some(b"[masked:email]")]),
        row(&[None, None]),
    ]);
    for piece in [1, 5, 1000] {
        let out = copied(&CopyFormat::Binary, &columns, &data, piece).expect("data");
        assert_eq!(out, wanted);
    }
    let cut = &data[..data.len() - 5];
    assert!(copied(&CopyFormat::Binary, &columns, cut, 9).is_err());
    assert!(copied(&CopyFormat::Binary, &columns, b"nonsense", 9).is_err());
}

/// As `COPY ... TO` writes a field.
fn escaped(field: &str) -> String {
    field
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

proptest! {
    #[test]
    fn no_planted_mail_comes_through(
        before in "[ -~\t\n\r\\\\]{0,20}", after in "[ -~\t\n\r\\\\\"]{0,20}",
        piece in 1..40_usize, is_csv: bool, rows in 1..5_usize,
    ) {
        let value = format!("{before} jane.doe@example.com {after}");
        let (format, field) = match is_csv {
            true => (CopyFormat::csv(), format!("\"{}\"", value.replace('"', "\"\""))),
            false => (CopyFormat::text(), escaped(&value)),
        };
        let divider = if is_csv { "," } else { "\t" };
        let line = format!("1{divider}{field}{divider}2\n");
        let data = line.repeat(rows);
        let columns = [column("a", 0, 0), column("b", 0, 0), column("c", 0, 0)];
        let out = copied(&format, &columns, data.as_bytes(), piece).expect("data");
        let out = String::from_utf8(out).expect("UTF-8");
        prop_assert!(!out.contains("jane.doe"), "{}", out);
        prop_assert_eq!(&out, &copied(&format, &columns, data.as_bytes(), usize::MAX)
            .map(|out| String::from_utf8(out).expect("UTF-8")).expect("data"));
        if !is_csv {
            prop_assert_eq!(out.lines().count(), rows);
            prop_assert!(out.lines().all(|line| line.matches('\t').count() == 2));
        }
    }

    #[test]
    fn any_bytes_are_masked_or_refused(data in prop::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
        for format in [CopyFormat::text(), CopyFormat::csv(), CopyFormat::Binary] {
            let whole = copied(&format, &[], &data, usize::MAX);
            let pieces = copied(&format, &[], &data, piece);
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                prop_assert_eq!(whole, pieces);
            }
        }
    }
}
