//! What masks need to know of a COPY, and rows as the record keeps them.

mod kept;

use std::sync::Arc;

use holdpoint_core::{
    mask::{
        MaskSet, Origin,
        rows::{Column, CopyFormat, CopyMasker},
    },
    sql::Copy,
};

pub use kept::{Keeping, Kept, LONGEST_ROW, ROWS, SQL, keep};

/// The data of a COPY has to be masked, and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data of this COPY has to be masked, and what columns it has cannot be told; COPY table (column, ...) TO STDOUT names them, or SELECT the rows"
)]
pub struct UnreadableCopy;

/// Masks the data of a COPY, whose columns have to be known: nothing else tells what is in it. `statement` is the text that it comes from.
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
    let by_name = |name: &String| {
        copying.relation.as_ref().map(|relation| Origin {
            schema: relation.schema.clone(),
            relation: relation.name.clone(),
            attribute: name.clone(),
            ..Origin::default()
        })
    };
    let of = |(at, name): (usize, &String)| Column {
        name: name.clone(),
        origin: copying
            .origins
            .get(at)
            .cloned()
            .flatten()
            .or_else(|| by_name(name)),
        type_oid: 0,
        format: 0,
    };
    copying.columns.iter().enumerate().map(of).collect()
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
            // How values are quoted, and what is done with rows that are refused.
            (
                "format" | "force_quote" | "force_not_null" | "force_null" | "freeze" | "on_error"
                | "reject_limit" | "log_verbosity",
                _,
            ) => {}
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
                    None | Some("true" | "on" | "1" | "match") => true,
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
            origins: Vec::new(),
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
}
