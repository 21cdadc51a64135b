//! Settings that a client may bring along. Those that change what SQL means are not among them.

use std::collections::BTreeMap;

use super::{super::answer::Complaint, malformed};

/// None of them changes what a statement does, or who does it, in a way that the statement's text and the server's catalog would not tell. Of `search_path`, that is
/// so because a name counts as every object of that name, in whatever schema.
const ALLOWED: [&str; 30] = [
    "application_name",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "cursor_tuple_fraction",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_hashjoin",
    "enable_nestloop",
    "enable_seqscan",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "search_path",
    "statement_timeout",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "timezone",
    "transaction_timeout",
    "work_mem",
];

/// Settings for a connection, only such as it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Default for Settings {
    /// None but how SQL is read here: a role or a database may have other defaults.
    fn default() -> Self {
        let read_as = [
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ];
        Self(
            read_as
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        )
    }
}

impl Settings {
    /// For connections of Holdpoint's own.
    #[must_use]
    pub fn called(application: &str) -> Self {
        let mut settings = Self::default();
        settings
            .0
            .insert("application_name".to_owned(), application.to_owned());
        settings
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a setting. Of several the last counts, as with PostgreSQL.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), Complaint> {
        let plain = name.to_ascii_lowercase();
        match plain.as_str() {
            "client_encoding" => check_encoding(value),
            "standard_conforming_strings" if is_on(value) => Ok(()),
            "role" | "session_authorization" => Err(refused(name).hint(
                "Connect without it and use SET ROLE: it is judged by policy like every statement.",
            )),
            _ if ALLOWED.contains(&plain.as_str()) => {
                self.0.insert(plain, value.to_owned());
                Ok(())
            }
            _ => Err(refused(name).hint(
                "Leave it out of the connection string and PGOPTIONS, or use SET after connecting: it is judged by policy like every statement.",
            )),
        }
    }

    /// Adds those of `options`: command-line arguments of a server process, of which `-c name=value` and `--name=value` are such.
    pub(super) fn take_options(&mut self, options: &str) -> Result<(), Complaint> {
        let mut arguments = split(options).into_iter();
        while let Some(argument) = arguments.next() {
            let setting = match (argument.strip_prefix("--"), argument.strip_prefix("-c")) {
                (Some(setting), _) => Some(setting.to_owned()),
                (None, Some("")) => arguments.next(),
                (None, Some(setting)) => Some(setting.to_owned()),
                (None, None) => None,
            };
            let setting = setting.unwrap_or_default();
            let Some((name, value)) = setting.split_once('=') else {
                return Err(malformed(&format!(
                    "\"{argument}\" in `options` is not passed on by Holdpoint"
                ))
                .hint("Only -c NAME=VALUE and --NAME=VALUE are."));
            };
            self.take(&name.replace('-', "_"), value)?;
        }
        Ok(())
    }
}

/// At white space, a backslash takes the next character as it is (`pg_split_opts` in PostgreSQL's postinit.c).
fn split(options: &str) -> Vec<String> {
    // As isspace(3) has it in the C locale.
    let is_space =
        |character: char| matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let mut arguments = Vec::new();
    let mut characters = options.chars().peekable();
    loop {
        while characters.next_if(|next| is_space(*next)).is_some() {}
        if characters.peek().is_none() {
            return arguments;
        }
        let mut argument = String::new();
        while let Some(character) = characters.next_if(|next| !is_space(*next)) {
            match character {
                '\\' => argument.extend(characters.next()),
                other => argument.push(other),
            }
        }
        arguments.push(argument);
    }
}

/// Names of encodings are read without case and punctuation (`clean_encoding_name` in PostgreSQL's encnames.c).
fn check_encoding(value: &str) -> Result<(), Complaint> {
    let plain: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|it| it.to_ascii_lowercase())
        .collect();
    if plain == "utf8" || plain == "unicode" {
        return Ok(());
    }
    Err(Complaint::new(
        "0A000",
        format!(
            "Holdpoint reads SQL in UTF-8, and the client asks for client_encoding \"{value}\""
        ),
    )
    .detail(
        "In other encodings, bytes that look like a quote or a backslash may be part of a letter.",
    )
    .hint("Set PGCLIENTENCODING=UTF8, or client_encoding=UTF8 in the connection string."))
}

fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["on", "true", "yes", "1"].contains(&value.as_str())
}

fn refused(name: &str) -> Complaint {
    Complaint::new(
        "0A000",
        format!("Holdpoint does not take the setting \"{name}\" at the start of a connection"),
    )
}
