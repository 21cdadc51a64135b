//! What the names in a statement mean on the server: asked there, over connections of Holdpoint's own, never the agent's.
//!
//! Each database has one such connection, opened with the entry's credential, read-only and with an empty search path; it is closed when
//! nobody needs it for 30 s. Answers count for 5 s. Whoever cannot be told in 2 s gets an opaque statement.

mod client;
mod place;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdpoint_core::sql::{Resolved, Statement, facts::LocalNames};
use tokio::net::TcpStream;

pub use self::{
    client::{Client, Origin},
    place::{Dial, Place},
};
use super::{
    catalog::Entry,
    server::{self, ServerLink},
    startup::Settings,
    stream::Stream,
};

/// How many databases are known at a time; agents choose their names where an entry does not.
const MOST_PLACES: usize = 256;

/// What databases tell of themselves.
#[derive(Default)]
pub struct Lookups {
    /// By the entry's name and the database's.
    places: Mutex<HashMap<Arc<str>, PlacesOfEntry>>,
}

type ServerPlace = Place<Stream<TcpStream>>;
/// By the database.
type PlacesOfEntry = HashMap<String, Arc<ServerPlace>>;

impl Lookups {
    /// What a statement does there, `local` being what its connection has changed and not committed. What cannot be looked up within
    /// 2 s is opaque, with that as the reason.
    pub async fn resolve(
        &self,
        entry: &Arc<Entry>,
        database: &str,
        statement: &Statement,
        local: &LocalNames,
    ) -> Resolved {
        let place = self.place(entry, database);
        let mut resolved = place.resolve(&Door { entry, database }, statement).await;
        local.apply(statement, &mut resolved);
        resolved
    }

    /// A statement changes what names mean: to be called before it is forwarded, and again when its transaction has ended.
    pub fn changed(&self, entry: &Entry, database: &str) {
        self.place(entry, database).changed();
    }

    /// What the columns of a result are called, by their table's oid and their number: as many as were asked for, and nothing for
    /// what is no column of a table, or cannot be looked up within 2 s.
    pub async fn columns(
        &self,
        entry: &Arc<Entry>,
        database: &str,
        origins: &[(u32, i16)],
    ) -> Vec<Origin> {
        let place = self.place(entry, database);
        place.columns(&Door { entry, database }, origins).await
    }

    fn place(&self, entry: &Entry, database: &str) -> Arc<ServerPlace> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(&entry.name).and_then(|of| of.get(database)) {
            return place.clone();
        }
        if places.values().map(HashMap::len).sum::<usize>() >= MOST_PLACES {
            places.clear();
        }
        let of = places.entry(entry.name.clone()).or_default();
        of.entry(database.to_owned())
            .or_insert_with(Place::new)
            .clone()
    }
}

/// The way to a database of an entry.
struct Door<'a> {
    entry: &'a Arc<Entry>,
    database: &'a str,
}

impl Dial for Door<'_> {
    type Stream = Stream<TcpStream>;

    async fn dial(&self) -> anyhow::Result<Self::Stream> {
        let settings = Settings::called("holdpoint look-up");
        let ServerLink { stream, .. } =
            server::connect(self.entry, self.database, &settings).await?;
        Ok(stream)
    }
}
