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

/// The data of a COPY has to be masked, and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data of this COPY has to be masked; name the table's columns, COPY table (column, ...) TO STDOUT, or SELECT the rows"
)]
pub struct UnreadableCopy;

/// Masks the data of a COPY, whose columns have to be named: nothing else tells what is in it. `statement` is the text that it comes from.
///
/// # Errors
/// When they are not, or an option says what is not known here.
pub fn copy(
    set: Arc<MaskSet>,
    copying: Option<&Copy>,
    statement: Option<&str>,
) -> Result<CopyMasker, UnreadableCopy> {
    let named = copying.filter(|copy| copy.relation.is_some() && !copy.columns.is_empty());
    let copying = named.ok_or(UnreadableCopy)?;
    let format = format(copying).ok_or(UnreadableCopy)?;
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

/// How the data is written; nothing where an option says what is not known here.
fn format(copy: &Copy) -> Option<CopyFormat> {
    let mut named = "text".to_owned();
    for (name, value) in &copy.options {
        if name == "format" {
            named = value.as_deref()?.to_ascii_lowercase();
        }
    }
    let mut format = match named.as_str() {
        "text" => CopyFormat::text(),
        "csv" => CopyFormat::csv(),
        "binary" => return Some(CopyFormat::Binary),
        _ => return None,
    };
    let byte = |value: &Option<String>| match value.as_deref()?.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    };
    let (mut own_quote, mut own_escape) = (None, None);
    for (name, value) in &copy.options {
        match (name.as_str(), &mut format) {
            ("format" | "force_quote", _) => {}
            (
                "delimiter",
                CopyFormat::Text { delimiter, .. } | CopyFormat::Csv { delimiter, .. },
            ) => {
                *delimiter = byte(value)?;
            }
            ("null", CopyFormat::Text { null, .. } | CopyFormat::Csv { null, .. }) => {
                *null = value.clone()?.into_bytes();
            }
            ("header", CopyFormat::Text { header, .. } | CopyFormat::Csv { header, .. }) => {
                *header = match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
                    None | Some("true" | "on" | "1") => true,
                    Some("false" | "off" | "0") => false,
                    Some(_) => return None,
                };
            }
            ("quote", CopyFormat::Csv { .. }) => own_quote = Some(byte(value)?),
            ("escape", CopyFormat::Csv { .. }) => own_escape = Some(byte(value)?),
            _ => return None,
        }
    }
    if let CopyFormat::Csv { quote, escape, .. } = &mut format {
        *quote = own_quote.unwrap_or(*quote);
        *escape = own_escape.unwrap_or(*quote);
    }
    Some(format)
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
        let mut masker = copy(set(), Some(&users(options)), None).expect("readable");
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
            assert!(copy(set(), Some(&users(&[bad])), None).is_err());
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
