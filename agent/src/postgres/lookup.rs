//! What the names in a statement mean on the server: asked there, over connections of Holdpoint's own, never the agent's.
//!
//! Each database has one such connection, opened with the entry's credential, read-only and with an empty search path; it is closed when
//! nobody needs it for 30 s. Answers count for 5 s. Whoever cannot be told in 2 s gets an opaque statement. What a held statement would touch is
//! asked over a connection for just that.

mod client;
mod estimate;
mod lineage;
mod place;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdpoint_core::sql::{Name, Resolved, Statement, facts::LocalNames};
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};

pub use self::{
    client::{Client, Origin},
    estimate::Planned,
    place::{DEADLINE, Dial, Place},
};
use super::{
    catalog::Entry,
    server::{self, ServerLink},
    startup::Settings,
    stream::Stream,
};
use crate::approvals::RowsView;

/// How many databases are known at a time; agents choose their names where an entry does not.
const MOST_PLACES: usize = 256;
/// How many statements are planned at a time, each on a connection of its own: somebody may have locked what they are about.
const MOST_PLANNED: usize = 8;

/// What databases tell of themselves.
pub struct Lookups {
    /// By the entry's name and the database's.
    places: Mutex<HashMap<Arc<str>, PlacesOfEntry>>,
    planning: Semaphore,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            places: Mutex::default(),
            planning: Semaphore::new(MOST_PLANNED),
        }
    }
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

    /// A statement changes what names mean: to be called before it is forwarded, and again when its transaction has ended. Several
    /// entries may lead to one server, and poolers call one database by several names, so that nothing counts any more.
    pub fn changed(&self) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let all = places.values().flat_map(HashMap::values);
        all.for_each(|place| place.changed());
    }

    /// What the columns of a result are, by their table's oid and their number: as many as were asked for, and nothing for what is no column
    /// of a table. A view's are followed to what it reads. None of them where they cannot be looked up within 2 s.
    pub async fn columns(
        &self,
        entry: &Arc<Entry>,
        database: &str,
        origins: &[(u32, i16)],
    ) -> Option<Vec<Origin>> {
        let place = self.place(entry, database);
        place.columns(&Door { entry, database }, origins).await
    }

    /// The columns that a COPY of this relation moves when it names none, in their order; nothing where that is not one relation, or
    /// cannot be looked up within 2 s.
    pub async fn table(
        &self,
        entry: &Arc<Entry>,
        database: &str,
        relation: &Name,
    ) -> Option<Vec<(String, Origin)>> {
        let place = self.place(entry, database);
        place.table(&Door { entry, database }, relation).await
    }

    /// How many rows a statement would touch, or why that is not known by then.
    pub async fn estimate(
        &self,
        entry: &Arc<Entry>,
        database: &str,
        planned: &Planned<'_>,
        until: Instant,
    ) -> RowsView {
        match self.planning.try_acquire() {
            Ok(_place) => estimate::estimate(&Door { entry, database }, planned, until).await,
            Err(_) => RowsView::Unknown {
                why: "too many statements are being planned".to_owned(),
            },
        }
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
