//! What a server was asked, by its own account.

/// `log_line_prefix`: session, user, database, application; then severity and message.
pub(super) const LINE_PREFIX: &str = "~%c|%u|%d|%a|";

/// What the look-ups of Holdpoint call themselves.
pub const LOOKUP: &str = "holdpoint look-up";

/// What a server has written down.
#[derive(Clone, Debug, Default)]
pub struct Log(Vec<Entry>);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which of the server's sessions.
    pub session: String,
    /// Its role.
    pub user: String,
    /// Its database.
    pub database: String,
    /// What the client calls itself.
    pub application: String,
    /// `LOG`, `ERROR`, `DETAIL`, `STATEMENT`, ...
    pub severity: String,
    /// The rest.
    pub message: String,
}

impl Entry {
    /// The SQL that arrived, where this says so: sent, parsed, bound or executed, whether it ran well or failed.
    #[must_use]
    pub fn sql(&self) -> Option<&str> {
        if self.severity == "STATEMENT" {
            return Some(&self.message);
        }
        let message = match self.message.strip_prefix("duration: ") {
            Some(rest) => rest.split_once(" ms  ")?.1,
            None => &self.message,
        };
        let (kind, sql) = message.split_once(": ")?;
        let kind = kind.split(' ').next()?;
        let is_sql = matches!(
            kind,
            "statement" | "execute" | "parse" | "bind" | "fastpath"
        );
        (self.severity == "LOG" && is_sql).then_some(sql)
    }

    fn is_estimate(&self) -> bool {
        let is_planned = |sql: &str| sql.starts_with("EXPLAIN (FORMAT JSON, VERBOSE) ");
        self.application == LOOKUP && self.sql().is_some_and(is_planned)
    }
}

impl Log {
    /// A message begins with the prefix; its further lines begin with a tab.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for line in text.lines() {
            if let Some(entry) = parse_line(line) {
                entries.push(entry);
            } else if let (Some(last), Some(more)) = (entries.last_mut(), line.strip_prefix('\t')) {
                last.message.push('\n');
                last.message.push_str(more);
            }
        }
        Self(entries)
    }

    /// All of it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// All SQL that arrived, each as often as it was sent, parsed, bound or executed; without what Holdpoint had planned for those who are asked.
    pub fn statements(&self) -> impl Iterator<Item = &str> {
        let sent = self.0.iter().filter(|it| !it.is_estimate());
        sent.filter_map(Entry::sql)
    }

    /// The SQL that Holdpoint had planned for those who are asked.
    pub fn estimates(&self) -> impl Iterator<Item = &str> {
        let planned = self.0.iter().filter(|it| it.is_estimate());
        planned.filter_map(Entry::sql)
    }

    /// Whether SQL arrived that contains `text`.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        self.statements().any(|sql| sql.contains(text))
    }

    /// The log of what came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0[earlier.0.len()..].to_vec())
    }
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut parts = line.strip_prefix('~')?.splitn(5, '|');
    let mut next = || parts.next().map(str::to_owned);
    let (session, user, database, application) = (next()?, next()?, next()?, next()?);
    let (severity, message) = parts.next()?.split_once(":  ")?;
    Some(Entry {
        session,
        user,
        database,
        application,
        severity: severity.to_owned(),
        message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_found_however_it_came() {
        let log = "~1.2|app|shop|psql|LOG:  statement: SELECT 1,\n\t2\n\
            ~1.2|app|shop|psql|LOG:  duration: 0.1 ms\n\
            ~1.2|app|shop|psql|LOG:  duration: 0.1 ms  parse s1: SELECT 3\n\
            ~1.2|app|shop|psql|LOG:  execute <unnamed>: SELECT 4\n\
            ~1.2|app|shop|psql|ERROR:  relation \"x\" does not exist at character 15\n\
            ~1.2|app|shop|psql|STATEMENT:  SELECT 5 FROM x\n\
            ~1.2|app|shop|a|b|LOG:  statement: SELECT 6\n\
            ~3.4||||LOG:  database system is ready to accept connections\n";
        let log = Log::parse(log);
        let found: Vec<_> = log.statements().collect();
        let expected = ["SELECT 1,\n2", "SELECT 3", "SELECT 4", "SELECT 5 FROM x"];
        assert_eq!(
            found, expected,
            "an application's name can hide nothing else"
        );
        assert!(log.has("SELECT 3") && !log.has("SELECT 7"));
    }
}
