//! Connections to hosts that policy allows, without looking inside.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use holdpoint_core::operation::{Action, Trait};
use http::HeaderMap;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Caller, Refused, STOPPED};
use crate::{
    cut::{self, Counted},
    gate::{Asker, Patience},
    metrics::Served,
    postgres,
};

/// How long a passed-through connection waits for an approval.
const HELD_CONNECTION: Duration = Duration::from_secs(50);

impl Caller {
    /// Joins the client to a host that policy allows, without looking inside.
    pub(super) async fn pass_through(
        &self,
        mut stream: TcpStream,
        first: Bytes,
        name: &str,
        port: u16,
        is_tls: bool,
    ) -> Result<Served, Refused> {
        let standing = &self.room.session.standing;
        let operation = standing.on_host(Action::NET_CONNECT, name, Some(port));
        let mut asker = Asker {
            session: self.room.session.clone(),
            connection: self.id,
            patience: Patience::AtMost(HELD_CONNECTION),
            headers: &HeaderMap::new(),
            body: &[],
            rows: &[],
        };
        let admitted = self
            .house
            .gate
            .admit(&mut asker, std::slice::from_ref(&operation))
            .await;
        let permits = match admitted {
            Ok(permits) => permits,
            Err(refusal) if is_tls => return self.refuse_tls(stream, first, &refusal).await,
            // Whoever asks for a database at another port is told so in its words.
            Err(_) if first.is_empty() && self.house.databases.know(name) => {
                let to = self.flow.map(|flow| flow.destination);
                let to = to.ok_or("nothing says where it was going")?;
                let refused = Box::pin(postgres::refuse_unread(&self.arrival(to), stream)).await;
                return Err(refused.into());
            }
            Err(refusal) => return Err(Refused(refusal.message)),
        };
        let (mut outcome, lease) = permits.spend_lasting();
        let dialled = self.house.upstream.dial(&mut outcome, name, port).await;
        let mut upstream = dialled
            .map_err(|error| Refused(format!("{name}:{port} could not be reached: {error}")))?;
        if let Err(error) = upstream.write_all(&first).await {
            return Err(Refused(format!("{name}:{port} broke off: {error}")));
        }
        // A runner that waits for its next job, or reports on this one, is not to be cut off by its hook.
        let own = operation.traits.contains(&Trait::OwnHost);
        self.outlasts.store(own, Ordering::Relaxed);
        let mut upstream = Counted::new(upstream);
        let grants_over = outcome.grants_over();
        let asking = asker.asking();
        let end = tokio::select! {
            joined = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => match joined {
                Ok(_) => PassedOn::ToItsEnd,
                Err(_) => PassedOn::Broken,
            },
            () = self.house.stopped() => PassedOn::Stopped,
            () = grants_over => PassedOn::Cut("the grant it was open by is over".to_owned()),
            reason = self.house.gate.no_longer_allows(&self.room.session, &asking, &operation, lease) => {
                PassedOn::Cut(reason)
            }
        };
        outcome.request_bytes = upstream.written + first.len() as u64;
        outcome.response_bytes = upstream.read;
        match end {
            PassedOn::ToItsEnd => outcome.closed(),
            PassedOn::Broken => {}
            PassedOn::Stopped => return Err(STOPPED.into()),
            PassedOn::Cut(reason) => {
                outcome.cut();
                cut::record(
                    &self.house,
                    &self.room,
                    (self.id, name, port),
                    &outcome,
                    &reason,
                )
                .await;
            }
        }
        Ok(Served::PassedThrough)
    }
}

/// How passing on ended.
enum PassedOn {
    ToItsEnd,
    Broken,
    Stopped,
    Cut(String),
}
