//! The text of the table. One line each, the first character tells what it is: `#` the format's version, `@` a
//! location, `~` another name of a service, `=` the host of the methods that follow; anything else is a method in
//! six columns divided by tabs.

use std::collections::{HashMap, HashSet};

/// The first line of every table this version reads.
pub(super) const FORMAT: &str = "#holdpoint-catalog 1";

/// Why a table was not taken.
#[derive(Debug, thiserror::Error)]
#[error("the table of Google methods is damaged ({0}); `cargo xtask catalog` makes it anew")]
pub struct Damaged(pub(super) String);

/// One method of a Google API.
#[derive(Clone, Debug)]
pub struct Method {
    /// The discovery id, for example `compute.instances.delete`.
    pub id: &'static str,
    /// The HTTP verb.
    pub verb: &'static str,
    /// The host of the API's root URL.
    pub host: &'static str,
    /// The path without its leading slash: `flatPath`, else `path`. `{x}` is one segment, `{x=**}` one or more.
    pub template: &'static str,
    parameters: &'static str,
    repeated: &'static str,
    /// Whether it takes media under `/upload/` and `/resumable/upload/`.
    pub uploads: bool,
    /// Whether it gives media under `/download/`.
    pub downloads: bool,
}

impl Method {
    /// Whether this parameter stands in the path, so that it has no business in the query.
    #[must_use]
    pub fn takes_in_path(&self, parameter: &str) -> bool {
        if self.parameters.is_empty() {
            let variables = self.template.split('/').filter_map(variable);
            return variables.into_iter().any(|name| name == parameter);
        }
        self.parameters.split(',').any(|name| name == parameter)
    }

    /// Whether this query parameter may be given more than once.
    #[must_use]
    pub fn repeats(&self, parameter: &str) -> bool {
        self.repeated.split(',').any(|name| name == parameter)
    }
}

/// The name of the variable that a template's segment holds.
pub(crate) fn variable(segment: &str) -> Option<&str> {
    let inside = segment.strip_prefix('{')?;
    let name = inside.split('}').next()?;
    Some(name.strip_suffix("=**").unwrap_or(name))
}

pub(super) struct Table {
    pub hosts: Vec<&'static str>,
    pub methods: Vec<Method>,
    pub locations: HashSet<&'static str>,
    pub aliases: HashMap<&'static str, &'static str>,
}

pub(super) fn parse(text: &'static str) -> Result<Table, Damaged> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return Err(Damaged("another format".into()));
    }
    let mut table = Table {
        hosts: Vec::new(),
        methods: Vec::new(),
        locations: HashSet::new(),
        aliases: HashMap::new(),
    };
    for line in lines {
        let rest = line.get(1..).unwrap_or_default();
        match line.as_bytes().first() {
            Some(b'@') => drop(table.locations.insert(rest)),
            Some(b'=') => table.hosts.push(rest),
            Some(b'~') => {
                let (name, host) = rest.split_once('\t').ok_or_else(|| damaged(line))?;
                table.aliases.insert(name, host);
            }
            _ => {
                let host = table.hosts.last().ok_or_else(|| damaged(line))?;
                table
                    .methods
                    .push(method(host, line).ok_or_else(|| damaged(line))?);
            }
        }
    }
    Ok(table)
}

fn damaged(line: &str) -> Damaged {
    Damaged(format!("line {line:?}"))
}

fn method(host: &'static str, line: &'static str) -> Option<Method> {
    let mut columns = line.split('\t');
    let mut next = || columns.next();
    let (id, verb, template) = (next()?, next()?, next()?);
    let (parameters, repeated, flags) = (next()?, next()?, next()?);
    Some(Method {
        id,
        verb,
        host,
        template,
        parameters,
        repeated,
        uploads: flags.contains('u'),
        downloads: flags.contains('d'),
    })
}
