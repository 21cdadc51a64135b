//! Where strings, comments and statements begin and end
//! (<https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical>).

/// The statements of a text, without their comments, and with the same short string in place of every string: no other reader can find
/// other bounds in what is left.
///
/// # Errors
/// When readers may differ, or it does not end.
pub(super) fn statements(text: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader {
        rest: text,
        statement: String::new(),
        statements: Vec::new(),
    };
    while !reader.rest.is_empty() {
        reader.step()?;
    }
    reader.end_statement();
    Ok(reader.statements)
}

/// What stands for every string.
const STRING: &str = "'s'";

struct Reader<'a> {
    rest: &'a str,
    statement: String,
    statements: Vec<String>,
}

impl Reader<'_> {
    fn step(&mut self) -> Result<(), String> {
        let rest = self.rest.as_bytes();
        match rest[0] {
            b'#' => self.line_comment(),
            b'-' if rest.starts_with(b"--") => self.line_comment(),
            b'/' if rest.starts_with(b"/*") => {
                let end = self.rest[2..].find("*/").ok_or("a comment does not end")?;
                self.skip(end + 4);
                self.statement.push(' ');
                Ok(())
            }
            b'\'' | b'"' => self.string(),
            b'`' => self.quoted_name(),
            b';' => {
                self.end_statement();
                self.skip(1);
                Ok(())
            }
            b'\t' | b'\n' | b'\r' => {
                self.statement.push(' ');
                self.skip(1);
                Ok(())
            }
            byte @ b' '..=b'~' if byte != b'\\' => {
                self.statement.push(char::from(byte));
                self.skip(1);
                Ok(())
            }
            _ => Err("there is a sign outside of strings that does not belong there".to_owned()),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn end_statement(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        if !statement.trim().is_empty() {
            self.statements.push(statement.trim().to_owned());
        }
    }

    fn line_comment(&mut self) -> Result<(), String> {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let comment = &self.rest[..end];
        // Whether a lone one ends a line, readers differ; and some know more ends of lines than others.
        let comment = comment.strip_suffix('\r').unwrap_or(comment);
        if comment.contains(['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']) {
            return Err("a comment holds what may be the end of a line".to_owned());
        }
        self.skip(end);
        self.statement.push(' ');
        Ok(())
    }

    /// Raw or not, a backslash takes the sign behind it along, so prefixes do not matter for where it ends.
    fn string(&mut self) -> Result<(), String> {
        let quote = &self.rest[..1];
        let triple = quote.repeat(3);
        let delimiter = match self.rest.starts_with(&triple) {
            true => triple.as_str(),
            false => quote,
        };
        let content = &self.rest.as_bytes()[delimiter.len()..];
        let mut at = 0;
        loop {
            match content.get(at) {
                None => return Err("a string does not end".to_owned()),
                Some(b'\\') => at += 2,
                Some(b'\n' | b'\r') if delimiter.len() == 1 => {
                    return Err("a string in single quotes goes over lines".to_owned());
                }
                Some(_) if content[at..].starts_with(delimiter.as_bytes()) => break,
                Some(_) => at += 1,
            }
        }
        self.skip(at + 2 * delimiter.len());
        self.statement.push_str(STRING);
        // `'a''b'` is two strings here, and one with a quote in it elsewhere.
        self.statement.push(' ');
        Ok(())
    }

    fn quoted_name(&mut self) -> Result<(), String> {
        let length = self.rest[1..]
            .find('`')
            .ok_or("a quoted name does not end")?;
        let name = &self.rest[1..=length];
        let fits = |c: char| c.is_alphanumeric() || "_-.:*$@ ".contains(c);
        if name.is_empty() || !name.chars().all(fits) || self.rest[length + 2..].starts_with('`') {
            return Err("a quoted name has signs in it that readers may differ in".to_owned());
        }
        self.statement.push_str(&self.rest[..length + 2]);
        self.skip(length + 2);
        Ok(())
    }
}
