//! The query behind a view, as `pg_rewrite.ev_action` has it: a tree in text (`src/backend/nodes/outfuncs.c`). Of all that is in it, the columns of
//! the outermost query and where the server says that they come from: `:resorigtbl` and `:resorigcol` of each `TARGETENTRY`.

/// A column of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Its place, from 1.
    pub(super) number: i16,
    /// The column that it is; nothing where it is computed.
    pub(super) column: Option<(u32, i16)>,
}

/// The columns of the outermost query; nothing where this is no tree of one query.
pub(super) fn targets(text: &str) -> Option<Vec<Target>> {
    let mut reader = Reader::default();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| !c.is_ascii_whitespace() && !matches!(c, '(' | ')'))
    {
        rest = &rest[start..];
        let length = word(rest);
        let (word, after) = rest.split_at(length);
        reader.word(word)?;
        rest = after;
    }
    (reader.depth == 0 && reader.queries == 1).then_some(reader.targets)
}

/// How long the word at the start is: a brace, or up to what ends it. A backslash takes away the meaning of what follows it.
fn word(text: &str) -> usize {
    if text.starts_with(['{', '}']) {
        return 1;
    }
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = !escaped && (c.is_ascii_whitespace() || matches!(c, '(' | ')' | '{' | '}'));
        escaped = !escaped && c == '\\';
        ends
    });
    end.unwrap_or(text.len())
}

#[derive(Default)]
struct Reader {
    depth: usize,
    queries: usize,
    /// A node begins, and its name is what comes next.
    begins: bool,
    /// Whether what comes is in the outermost query's list of columns.
    is_listed: bool,
    /// The field of a column that the next word is the value of.
    field: Field,
    number: Option<i16>,
    table: Option<u32>,
    attribute: Option<i16>,
    targets: Vec<Target>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    Number,
    Table,
    Attribute,
}

impl Reader {
    fn word(&mut self, word: &str) -> Option<()> {
        match word {
            "{" => {
                self.depth += 1;
                self.begins = true;
            }
            "}" => {
                self.ends()?;
                self.depth = self.depth.checked_sub(1)?;
            }
            name if std::mem::take(&mut self.begins) => {
                let is_outermost = self.depth == 1;
                self.queries += usize::from(is_outermost && name == "QUERY");
                self.is_listed &= !is_outermost;
            }
            field if field.starts_with(':') => match self.depth {
                1 => self.is_listed = field == ":targetList",
                2 => {
                    self.field = match field {
                        ":resno" => Field::Number,
                        ":resorigtbl" => Field::Table,
                        ":resorigcol" => Field::Attribute,
                        _ => Field::Other,
                    };
                }
                _ => {}
            },
            value if self.depth == 2 && self.is_listed => match std::mem::take(&mut self.field) {
                Field::Number => self.number = Some(value.parse().ok()?),
                Field::Table => self.table = Some(value.parse().ok()?),
                Field::Attribute => self.attribute = Some(value.parse().ok()?),
                Field::Other => {}
            },
            _ => {}
        }
        Some(())
    }

    /// A column ends.
    fn ends(&mut self) -> Option<()> {
        if self.depth != 2 || !self.is_listed {
            return Some(());
        }
        let (number, table) = (self.number.take()?, self.table.take()?);
        let attribute = self.attribute.take()?;
        self.targets.push(Target {
            number,
            column: (table != 0).then_some((table, attribute)),
        });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As PostgreSQL 15 prints `CREATE VIEW v AS SELECT a AS "x (y) {", (SELECT 1) AS n FROM t`, shortened.
    const VIEW: &str = "({QUERY :commandType 1 :rtable ({RTE :alias <> :eref {ALIAS :aliasname t :colnames (\"a\" \"b\")} :rtekind 1 \
        :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname z :ressortgroupref 0 :resorigtbl 7 :resorigcol 7 :resjunk false})}}) \
        :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 3}) :quals <>} :targetList ({TARGETENTRY :expr {VAR :varno 3 :varattno 1} :resno 1 \
        :resname x\\ \\(y\\)\\ \\{ :ressortgroupref 0 :resorigtbl 16385 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {SUBLINK :subselect {QUERY \
        :targetList ({TARGETENTRY :expr {CONST :constvalue 4 [ 1 0 0 0 ]} :resno 1 :resname n :ressortgroupref 0 :resorigtbl 5 :resorigcol 5 :resjunk false})}} \
        :resno 2 :resname n :ressortgroupref 0 :resorigtbl 0 :resorigcol 0 :resjunk false}) :override 0 :onConflict <> :returningList <>})";

    #[test]
    fn the_columns_of_the_outermost_query_are_read() {
        let target = |number, column| Target { number, column };
        let expected = vec![target(1, Some((16385, 2))), target(2, None)];
        assert_eq!(targets(VIEW), Some(expected));
        assert_eq!(targets("<>"), None);
        assert_eq!(targets("({QUERY :targetList ("), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ :{}()\\\\a-z0-9]{0,200}", cut in 0..VIEW.len() - 1) {
            let _ = targets(&text);
            prop_assert_eq!(targets(&VIEW[..cut]), None);
        }
    }
}
