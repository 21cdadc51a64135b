//! The listeners inside a session: its names are resolved, its connections accepted.

use std::{sync::Arc, time::Duration};

use holdpoint_core::{catalog::Catalog, operation::Action};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::House;
use crate::{
    binding::Sandbox,
    config, connection, dns, launch,
    record::Text,
    refusals::{Refused, RefusedBy},
};

/// Connections one session may have open at once.
const CONNECTIONS: usize = 512;

/// The names that a session may know.
struct SessionNames {
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
}

impl dns::Names for SessionNames {
    fn knows(&self, name: &str) -> bool {
        let room = self.sandbox.room();
        let session = &room.session;
        let asked = || session.standing.on_host(Action::NET_RESOLVE, name, None);
        Catalog::built_in().is_google_host(name)
            || self.house.databases.know(name)
            || room.instances.at(name).is_some()
            || self.house.gate.allows(session, &asked())
    }

    fn unknown(&self) -> config::UnknownNames {
        self.house.unknown_names
    }

    fn refused(&self, name: &str) {
        let refused = Refused {
            session: Some(self.sandbox.room().session.id.clone()),
            by: RefusedBy::Dns,
            process: None,
            destination: Some(Text::short(name)),
            reason: "unknown to policy".into(),
        };
        self.house.refusals.note(refused, None);
    }
}

/// Serves a session's listeners until dropped or aborted; when the daemon stops, until what is under way is answered.
pub(crate) async fn serve_listeners(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    listeners: launch::Listeners,
) {
    let names = SessionNames {
        house: house.clone(),
        sandbox: sandbox.clone(),
    };
    let resolver = dns::serve(
        sandbox.room().book.clone(),
        listeners.dns_udp,
        listeners.dns_tcp,
        names,
    );
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    for listener in listeners.proxy {
        tasks.spawn(accept(
            house.clone(),
            sandbox.clone(),
            listener,
            places.clone(),
        ));
    }
    tokio::select! {
        () = resolver => {}
        _ = tasks.join_next() => {}
        () = house.stopped() => {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    listener: TcpListener,
    places: Arc<Semaphore>,
) {
    // Of loopback, never of all addresses, so that each connection has the same.
    let own = match listener.local_addr() {
        Ok(own) => own,
        Err(error) => return tracing::error!(%error, "a session's listener is none"),
    };
    let mut connections = JoinSet::new();
    let mut stopped = std::pin::pin!(house.stopped());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let flow = connection::origin(&house, &sandbox.room(), own, client);
                    // Full means no: dropping the stream closes it.
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let (house, sandbox) = (house.clone(), sandbox.clone());
                        connections.spawn(async move {
                            connection::serve(house, sandbox, stream, flow).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stopped => break,
        }
    }
    // From here on whoever connects is refused.
    drop(listener);
    while connections.join_next().await.is_some() {}
}
