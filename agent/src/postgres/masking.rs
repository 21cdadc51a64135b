//! What masks need to know of a COPY, and rows as the record keeps them.

use std::sync::Arc;

use holdpoint_core::{
    mask::{
        MaskSet, Origin,
        rows::{Column, CopyFormat, CopyMasker},
    },
    sql::Copy,
};

use crate::record::Capture;

/// Bytes of a value that the record keeps; it says how many there were.
const KEPT: usize = 4096;

/// The data of a COPY cannot be masked as its options say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data of a COPY has to be masked, and {0}: SELECT the rows instead")]
pub struct UnreadableCopy(String);

/// Masks the data of a COPY. `statement` is the text that it comes from; `is_binary` is what the server announced.
///
/// # Errors
/// When its options make data that Holdpoint does not read.
pub fn copy(
    set: Arc<MaskSet>,
    copying: Option<&Copy>,
    statement: Option<&str>,
    is_binary: bool,
) -> Result<CopyMasker, UnreadableCopy> {
    let none = Copy::default();
    let copying = copying.unwrap_or(&none);
    let format = format(copying, is_binary)?;
    Ok(CopyMasker::new(set, &columns(copying), statement, format))
}

/// The columns that are named. Their types are known to nobody here: what looks like a number stays one.
fn columns(copying: &Copy) -> Vec<Column> {
    let of = |name: &String| Column {
        name: name.clone(),
        origin: copying.relation.as_ref().map(|relation| Origin {
            schema: relation.schema.clone(),
            relation: relation.name.clone(),
            attribute: name.clone(),
        }),
        type_oid: 0,
        format: 0,
    };
    copying.columns.iter().map(of).collect()
}

/// By the options as written; the older spelling `CSV` and `BINARY` are options of these names.
fn format(copying: &Copy, is_binary: bool) -> Result<CopyFormat, UnreadableCopy> {
    let mut is_csv = false;
    let mut header = false;
    let (mut delimiter, mut quote, mut escape, mut null) = (None, None, None, None);
    for (name, value) in &copying.options {
        let value = value.as_deref();
        match name.as_str() {
            "format" => is_csv = value.is_some_and(|value| value.eq_ignore_ascii_case("csv")),
            "csv" => is_csv = true,
            "header" => header = !value.is_some_and(is_off),
            "delimiter" => delimiter = Some(one_byte(name, value)?),
            "quote" => quote = Some(one_byte(name, value)?),
            "escape" => escape = Some(one_byte(name, value)?),
            "null" => null = value.map(|value| value.as_bytes().to_vec()),
            "encoding" if value.is_some_and(is_utf8) => {}
            "encoding" => return Err(UnreadableCopy("its encoding is not UTF8".into())),
            // They say what is quoted, not how.
            _ => {}
        }
    }
    let quote = quote.unwrap_or(b'"');
    Ok(match (is_binary, is_csv) {
        (true, _) => CopyFormat::Binary,
        (false, true) => CopyFormat::Csv {
            delimiter: delimiter.unwrap_or(b','),
            quote,
            escape: escape.unwrap_or(quote),
            null: null.unwrap_or_default(),
            header,
        },
        (false, false) => CopyFormat::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null.unwrap_or_else(|| b"\\N".to_vec()),
            header,
        },
    })
}

fn is_off(value: &str) -> bool {
    ["false", "off", "0"]
        .iter()
        .any(|off| value.eq_ignore_ascii_case(off))
}

fn is_utf8(value: &str) -> bool {
    ["utf8", "utf-8"]
        .iter()
        .any(|utf8| value.eq_ignore_ascii_case(utf8))
}

fn one_byte(name: &str, value: Option<&str>) -> Result<u8, UnreadableCopy> {
    match value.map(str::as_bytes) {
        Some([byte]) => Ok(*byte),
        _ => Err(UnreadableCopy(format!("its {name} is not one byte"))),
    }
}

/// Rows on their way into the record: newline-delimited JSON, an array of texts a row, after one of the columns' names. They are masked already.
pub struct KeptRows {
    capture: Capture,
    is_binary: Vec<bool>,
    line: Vec<u8>,
}

impl KeptRows {
    /// What the record calls the form.
    pub const CONTENT_TYPE: &str = "application/x-ndjson";

    /// Of rows with these columns.
    #[must_use]
    pub fn new(capture: Capture, columns: &[Column]) -> Self {
        let mut kept = Self {
            capture,
            is_binary: columns.iter().map(|column| column.format == 1).collect(),
            line: Vec::new(),
        };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        kept.line(&names);
        kept
    }

    /// Takes in the body of a `DataRow` that is masked. How much is kept is up to the record: bodies are cut at its configured size.
    pub fn row(&mut self, masked: &[u8]) {
        let values = told(masked, &self.is_binary);
        self.line(&values);
    }

    /// All rows have come.
    pub fn finish(self) {
        self.capture.finish();
    }

    fn line(&mut self, values: &impl serde::Serialize) {
        self.line.clear();
        if serde_json::to_writer(&mut self.line, values).is_ok() {
            self.line.push(b'\n');
            self.capture.push(&self.line);
        }
    }
}

/// The values of a row as text; bytes that are none in hexadecimal digits. What is broken off is left out: the row went through the masker
/// before, or nobody has to read it.
fn told(row: &[u8], is_binary: &[bool]) -> Vec<Option<String>> {
    let mut values = Vec::with_capacity(is_binary.len());
    let mut rest = row.get(2..).unwrap_or_default();
    for is_binary in is_binary {
        let Some((length, after)) = rest.split_first_chunk() else {
            break;
        };
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            values.push(None);
            rest = after;
            continue;
        };
        let Some((value, after)) = after.split_at_checked(length) else {
            break;
        };
        values.push(Some(told_value(value, *is_binary)));
        rest = after;
    }
    values
}

fn told_value(value: &[u8], is_binary: bool) -> String {
    let kept = &value[..value.len().min(KEPT)];
    let is_text = |text: &str| !is_binary || !text.contains(|c: char| c.is_control());
    let mut text = match std::str::from_utf8(kept) {
        Ok(text) if is_text(text) => text.to_owned(),
        Err(error) if !is_binary && error.error_len().is_none() => {
            String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned()
        }
        _ => format!("\\x{}", hex::encode(kept)),
    };
    if kept.len() < value.len() {
        text.push_str(&format!("... ({} bytes)", value.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use holdpoint_core::{mask::Masks, sql::Name};

    use super::*;

    fn set() -> Arc<MaskSet> {
        let source = toml::from_str("name = \"own\"\ncolumns = [\"users.email\"]").expect("TOML");
        let masks = Masks::new(&[source], [7; 32]).expect("a set");
        masks.union(["own"]).expect("it is there")
    }

    fn users(options: &[(&str, Option<&str>)]) -> Copy {
        let of =
            |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
        Copy {
            relation: Some(Name::plain("users")),
            columns: vec!["id".into(), "email".into()],
            options: options.iter().map(of).collect(),
        }
    }

    fn copied(options: &[(&str, Option<&str>)], data: &str) -> String {
        let mut masker = copy(set(), Some(&users(options)), None, false).expect("readable");
        let mut out = Vec::new();
        masker.push(data.as_bytes(), &mut out).expect("data");
        masker.finish(&mut out).expect("data");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_copy_is_masked_by_its_columns_however_it_is_written() {
        assert_eq!(copied(&[], "1\tx\n"), "1\t[masked:own]\n");
        let csv = [
            ("format", Some("csv")),
            ("delimiter", Some(";")),
            ("header", None),
        ];
        assert_eq!(
            copied(&csv, "id;email\n1;x\n"),
            "id;email\n1;[masked:own]\n"
        );
        for bad in [("delimiter", Some("ab")), ("encoding", Some("latin1"))] {
            assert!(copy(set(), Some(&users(&[bad])), None, false).is_err());
        }
    }

    #[test]
    fn rows_are_told_as_text() {
        let row = [
            &[0, 4][..],
            &[0, 0, 0, 2],
            b"ab",
            &[0xff; 4],
            &[0, 0, 0, 1, 7],
            &[0, 0, 0, 1, b'c'],
        ]
        .concat();
        assert_eq!(
            told(&row, &[false, false, true, true]),
            [
                Some("ab".into()),
                None,
                Some("\\x07".into()),
                Some("c".into())
            ]
        );
        assert!(told(&row[..5], &[false]).is_empty());
        let long = told_value(&vec![b'x'; KEPT + 1], false);
        assert!(long.ends_with("... (4097 bytes)"), "{long}");
    }
}
