//! A connection of Holdpoint's own, for nothing but catalog look-ups: read-only, and with an empty search path.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use holdpoint_core::{
    mask,
    sql::{
        Name, Names, Parameter,
        facts::{MOST_FOUND, observed::Answers},
    },
};
use postgres_protocol::{IsNull, message::frontend};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{
    super::frame::{self, Message},
    lineage::{self, Described, Lineage},
};

/// Of one answer, in bytes.
const LARGEST: usize = 16 << 20;
/// Within the deadline of a look-up, so that the server says itself that it was too slow.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET search_path = pg_catalog; SET default_transaction_read_only = on; \
     SET statement_timeout = '1800ms'; SET jit = off; SET plan_cache_mode = force_generic_plan";
const CATALOG: &str = include_str!("catalog.sql");
const COLUMNS: &str = include_str!("columns.sql");
const VIEWS: &str = include_str!("views.sql");
const TABLE: &str = include_str!("table.sql");
const DEFAULTS: &str = include_str!("defaults.sql");

const SILENT: &str = "the server's catalog did not answer";
const TOO_LONG: &str = "the question is too long";

/// What a column of a result is a column of.
pub type Origin = Option<mask::Origin>;

/// The server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the server refused the look-up: {message}")]
pub struct Refused {
    /// Its code for that.
    pub sqlstate: String,
    message: String,
}

/// A logged-in connection with the look-ups prepared.
pub struct Client<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes a connection that is logged in and ready.
    ///
    /// # Errors
    /// When the server refuses, or the connection fails.
    pub async fn new(stream: S) -> anyhow::Result<Self> {
        let mut client = Self::plain(stream).await?;
        let mut out = BytesMut::new();
        frontend::parse("catalog", CATALOG, [], &mut out)?;
        frontend::parse("columns", COLUMNS, [], &mut out)?;
        frontend::parse("table", TABLE, [], &mut out)?;
        frontend::parse("views", VIEWS, [], &mut out)?;
        frontend::sync(&mut out);
        client.ask(&out).await?;
        Ok(client)
    }

    /// The same, with nothing prepared.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub async fn plain(stream: S) -> anyhow::Result<Self> {
        let mut client = Self { stream };
        client.command(SETTINGS).await?;
        Ok(client)
    }

    /// Runs what answers nothing.
    ///
    /// # Errors
    /// When the server refuses, or the connection fails.
    pub async fn command(&mut self, sql: &str) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out)?;
        self.ask(&out).await.map(drop)
    }

    /// What these names mean.
    ///
    /// # Errors
    /// When the server refuses, the connection fails, or the answer is not understood.
    pub async fn look(&mut self, names: &Names) -> anyhow::Result<Answers> {
        let asked = serde_json::to_string(&Asked::of(names))?;
        let answer = self
            .run(
                "catalog",
                &[Some(&asked), Some(&(MOST_FOUND + 1).to_string())],
            )
            .await?
            .context(SILENT)?;
        serde_json::from_slice(&answer)
            .context("the server's catalog answers in a form that is not known")
    }

    /// What these columns, by the oid of their table and their number, are called, and what they are made of: as many as were asked for.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn columns(&mut self, asked: &[(u32, i16)]) -> anyhow::Result<Vec<Origin>> {
        let mut lineage = Lineage::of(asked);
        while let Some(next) = lineage.next()? {
            let columns: Vec<Option<Described>> =
                self.told("columns", &serde_json::to_string(&next)?).await?;
            if columns.len() != next.len() {
                bail!(
                    "the server's catalog told of {} columns where it was asked for {}",
                    columns.len(),
                    next.len()
                );
            }
            let views = lineage::views(&next, &columns);
            let trees: HashMap<u32, String> = match views.is_empty() {
                true => HashMap::new(),
                false => self.told("views", &serde_json::to_string(&views)?).await?,
            };
            lineage.told(&next, columns, &trees);
        }
        Ok(lineage.origins(asked))
    }

    async fn told<T: DeserializeOwned>(
        &mut self,
        statement: &str,
        asked: &str,
    ) -> anyhow::Result<T> {
        let answer = self.run(statement, &[Some(asked)]).await?.context(SILENT)?;
        serde_json::from_slice(&answer)
            .context("the server's catalog answers in a form that is not known")
    }

    /// The columns that a COPY of this relation moves when it names none, and what they are made of; nothing where that is not one relation.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn table(
        &mut self,
        relation: &Name,
    ) -> anyhow::Result<Option<Vec<(String, Origin)>>> {
        let answer = self
            .run("table", &[relation.schema.as_deref(), Some(&relation.name)])
            .await?;
        let columns: Option<Vec<(String, u32, i16)>> = answer
            .map(|it| serde_json::from_slice(&it))
            .transpose()
            .context("the server's catalog answers in a form that is not known")?;
        let Some(columns) = columns else {
            return Ok(None);
        };
        let asked: Vec<_> = columns.iter().map(|(_, oid, at)| (*oid, *at)).collect();
        let origins = self.columns(&asked).await?;
        let names = columns.into_iter().map(|(name, ..)| name);
        Ok(Some(names.zip(origins).collect()))
    }

    /// A column of these relations whose default may run what a user made.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn default_of_a_user(
        &mut self,
        relations: &BTreeSet<Name>,
    ) -> anyhow::Result<Option<String>> {
        let pairs: Vec<_> = relations.iter().map(|it| (&it.schema, &it.name)).collect();
        let mut out = BytesMut::new();
        frontend::parse("", DEFAULTS, [], &mut out)?;
        self.stream.write_all(&out).await?;
        let found = self
            .run("", &[Some(&serde_json::to_string(&pairs)?)])
            .await?;
        Ok(found.map(|it| String::from_utf8_lossy(&it).into_owned()))
    }

    /// The plan of a statement with these values, which are bound as an agent would bind them.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn explain(
        &mut self,
        explain: &str,
        parameters: &[Parameter],
    ) -> anyhow::Result<Vec<u8>> {
        let mut out = BytesMut::new();
        frontend::parse(
            "",
            explain,
            parameters.iter().map(|it| it.type_oid),
            &mut out,
        )?;
        let write = |it: &Parameter, out: &mut BytesMut| match &it.value {
            None => Ok(IsNull::Yes),
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
        };
        let formats = parameters.iter().map(|it| it.format);
        frontend::bind("", "", formats, parameters, write, [], &mut out)
            .map_err(|_| anyhow::anyhow!(TOO_LONG))?;
        frontend::execute("", 0, &mut out)?;
        frontend::sync(&mut out);
        self.ask(&out).await?.context(SILENT)
    }

    async fn run(
        &mut self,
        statement: &str,
        values: &[Option<&str>],
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let mut out = BytesMut::new();
        let write = |value: &Option<&str>, out: &mut BytesMut| match value {
            None => Ok(IsNull::Yes),
            Some(value) => {
                out.extend_from_slice(value.as_bytes());
                Ok(IsNull::No)
            }
        };
        frontend::bind("", statement, [], values, write, [], &mut out)
            .map_err(|_| anyhow::anyhow!(TOO_LONG))?;
        frontend::execute("", 0, &mut out)?;
        frontend::sync(&mut out);
        self.ask(&out).await
    }

    /// Sends, and reads until the server is ready again: the first value of the first row.
    async fn ask(&mut self, messages: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        self.stream.write_all(messages).await?;
        self.stream.flush().await?;
        let mut value = None;
        loop {
            let message = frame::read_message(&mut self.stream, LARGEST).await?;
            let message = message.context("the server closed the connection")?;
            match message.tag {
                b'Z' => return Ok(value),
                b'E' => bail!(complaint(&message)),
                b'D' if value.is_none() => value = first(&message)?,
                _ => {}
            }
        }
    }
}

/// The first column of a DataRow.
fn first(row: &Message) -> anyhow::Result<Option<Vec<u8>>> {
    let mut fields = row.fields();
    match fields.count()? {
        0 => Ok(None),
        _ => Ok(fields.value()?.map(<[u8]>::to_vec)),
    }
}

/// What an ErrorResponse says.
fn complaint(error: &Message) -> Refused {
    let mut refused = Refused {
        sqlstate: "unknown".to_owned(),
        message: "it does not say why".to_owned(),
    };
    let mut fields = error.fields();
    while let Ok(kind @ 1..) = fields.byte() {
        let Ok(text) = fields.c_string() else { break };
        let text = String::from_utf8_lossy(text);
        match kind {
            b'M' => refused.message = text.into_owned(),
            b'C' => refused.sqlstate = text.chars().take(5).collect(),
            _ => {}
        }
    }
    refused
}

/// The question, as `catalog.sql` reads it.
#[derive(Serialize)]
struct Asked<'a> {
    relations: Vec<AskedName<'a>>,
    functions: Vec<AskedName<'a>>,
    operators: Vec<AskedName<'a>>,
    types: Vec<AskedName<'a>>,
    attributes: Vec<AskedName<'a>>,
    methods: Vec<AskedName<'a>>,
}

#[derive(Serialize)]
struct AskedName<'a> {
    schema: Option<&'a str>,
    name: &'a str,
}

impl<'a> Asked<'a> {
    fn of(names: &'a Names) -> Self {
        let all = |names: &'a BTreeSet<Name>| {
            names
                .iter()
                .map(|it| AskedName {
                    schema: it.schema.as_deref(),
                    name: &it.name,
                })
                .collect()
        };
        let plain = |names: &'a BTreeSet<String>| {
            let names = names.iter();
            names.map(|name| AskedName { schema: None, name }).collect()
        };
        Self {
            relations: all(&names.relations),
            functions: all(&names.functions),
            operators: all(&names.operators),
            types: all(&names.types),
            attributes: plain(&names.attributes),
            methods: plain(&names.methods),
        }
    }
}
