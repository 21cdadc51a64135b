//! A connection of Holdpoint's own, for nothing but catalog look-ups: read-only, and with an empty search path.

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use holdpoint_core::sql::{
    Name, Names,
    facts::{MOST_FOUND, observed::Answers},
};
use postgres_protocol::{IsNull, message::frontend};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::super::frame::{self, Message};

/// Of one answer, in bytes.
const LARGEST: usize = 16 << 20;
/// Within the deadline of a look-up, so that the server says itself that it was too slow.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET search_path = pg_catalog; SET default_transaction_read_only = on; \
     SET statement_timeout = '1800ms'; SET jit = off; SET plan_cache_mode = force_generic_plan";
const CATALOG: &str = include_str!("catalog.sql");
const COLUMNS: &str = include_str!("columns.sql");

/// What a column of a result is a column of.
pub type Origin = Option<(Name, String)>;

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
        let mut client = Self { stream };
        let mut out = BytesMut::new();
        frontend::query(SETTINGS, &mut out)?;
        client.ask(&out).await?;
        out.clear();
        frontend::parse("catalog", CATALOG, [], &mut out)?;
        frontend::parse("columns", COLUMNS, [], &mut out)?;
        frontend::sync(&mut out);
        client.ask(&out).await?;
        Ok(client)
    }

    /// What these names mean.
    ///
    /// # Errors
    /// When the server refuses, the connection fails, or the answer is not understood.
    pub async fn look(&mut self, names: &Names) -> anyhow::Result<Answers> {
        let asked = serde_json::to_string(&Asked::of(names))?;
        let answer = self
            .run("catalog", &[&asked, &(MOST_FOUND + 1).to_string()])
            .await?;
        serde_json::from_slice(&answer)
            .context("the server's catalog answers in a form that is not known")
    }

    /// What these columns, by the oid of their table and their number, are called: as many as were asked for.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn columns(&mut self, origins: &[(u32, i16)]) -> anyhow::Result<Vec<Origin>> {
        let answer = self
            .run("columns", &[&serde_json::to_string(origins)?])
            .await?;
        let told: Vec<Option<(String, String, String)>> = serde_json::from_slice(&answer)
            .context("the server's catalog answers in a form that is not known")?;
        if told.len() != origins.len() {
            bail!(
                "the server's catalog told of {} columns where it was asked for {}",
                told.len(),
                origins.len()
            );
        }
        let named = |(schema, relation, column): (String, String, String)| {
            (Name::within(schema, relation), column)
        };
        Ok(told.into_iter().map(|it| it.map(named)).collect())
    }

    async fn run(&mut self, statement: &str, values: &[&str]) -> anyhow::Result<Vec<u8>> {
        let mut out = BytesMut::new();
        let write = |value: &&str, out: &mut BytesMut| {
            out.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind("", statement, [], values, write, [], &mut out)
            .map_err(|_| anyhow::anyhow!("the question is too long"))?;
        frontend::execute("", 0, &mut out)?;
        frontend::sync(&mut out);
        self.ask(&out)
            .await?
            .context("the server's catalog did not answer")
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
                b'E' => bail!("the server refused the look-up: {}", complaint(&message)),
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

/// The message of an ErrorResponse.
fn complaint(error: &Message) -> String {
    let mut fields = error.fields();
    while let Ok(kind @ 1..) = fields.byte() {
        match fields.c_string() {
            Ok(text) if kind == b'M' => return String::from_utf8_lossy(text).into_owned(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    "it does not say why".to_owned()
}

/// The question, as `catalog.sql` reads it.
#[derive(Serialize)]
struct Asked<'a> {
    relations: Vec<AskedName<'a>>,
    functions: Vec<AskedName<'a>>,
    operators: Vec<AskedName<'a>>,
    types: Vec<AskedName<'a>>,
    attributes: Vec<AskedName<'a>>,
}

#[derive(Serialize)]
struct AskedName<'a> {
    schema: Option<&'a str>,
    name: &'a str,
}

impl<'a> Asked<'a> {
    fn of(names: &'a Names) -> Self {
        let all = |names: &'a std::collections::BTreeSet<Name>| {
            names
                .iter()
                .map(|it| AskedName {
                    schema: it.schema.as_deref(),
                    name: &it.name,
                })
                .collect()
        };
        Self {
            relations: all(&names.relations),
            functions: all(&names.functions),
            operators: all(&names.operators),
            types: all(&names.types),
            attributes: names
                .attributes
                .iter()
                .map(|name| AskedName { schema: None, name })
                .collect(),
        }
    }
}
