//! Cloud SQL connectors, and SQL that goes over Cloud SQL's own API.
//!
//! A connector asks for `connectSettings` and for an ephemeral certificate, and then speaks PostgreSQL in mutual TLS with the instance, at port 3307. Here the
//! settings name Holdpoint's CA as the instance's, Holdpoint signs the certificate for the client's key by itself (Google is not asked: nobody gets a real one),
//! and port 3307 ends at Holdpoint, which goes to the instance with a certificate of its own ([`Dialer`]).

mod dialer;
mod ephemeral;
mod execute;
mod instances;
mod settings;

use std::time::Duration;

use holdpoint_core::operation::Operation;
use tokio::{net::TcpStream, time::timeout};

pub use self::{
    dialer::Dialer,
    ephemeral::certify,
    execute::{Changes, Within, refuse_rows_to_mask, within},
    instances::Instances,
    settings::rewrite,
};
use crate::{
    config::connection::Instance,
    postgres::{self, Arrival, Entry, Refused, answer::Complaint, greeting, stream::Stream},
};

/// What is to be done about a request besides sending it.
pub struct Beside {
    /// It asks for a connector's settings.
    pub settings: Option<Operation>,
    /// What its SQL changes.
    pub changes: Changes,
}

/// Where instances listen for connectors.
pub const PORT: u16 = 3307;
/// `GET .../connectSettings`.
pub const SETTINGS: &str = "sql.connect.get";
/// `POST ...:generateEphemeralCert`; its versions differ in the name.
const EPHEMERAL: [&str; 2] = [
    "sql.connect.generateEphemeral",
    "sql.connect.generateEphemeralCert",
];
/// How long a client may take until it has said what it wants.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether an action asks for an ephemeral certificate.
#[must_use]
pub fn is_ephemeral(action: &str) -> bool {
    EPHEMERAL.contains(&action)
}

/// The project and the id of the instance that a resource's name is about.
fn instance_of(resource: &str) -> Option<(&str, &str)> {
    let path = resource.strip_prefix("//sqladmin.googleapis.com/projects/")?;
    let (project, rest) = path.split_once("/instances/")?;
    let id = rest.split(['/', ':']).next()?;
    (!project.contains('/') && !id.is_empty()).then_some((project, id))
}

/// Serves a connector's connection to an instance until it ends.
///
/// # Errors
/// When nothing comes of it.
pub async fn serve(
    arrival: &Arrival,
    entry: &std::sync::Arc<Entry>,
    stream: TcpStream,
) -> Result<(), Refused> {
    let greeted = timeout(PATIENCE, greet(arrival, entry, stream));
    let greeting = tokio::select! {
        greeting = greeted => greeting.map_err(|_| Refused("it did not say what it wants".to_owned()))??,
        () = arrival.house.stopped() => return Err(Refused("the daemon stopped".to_owned())),
    };
    postgres::receive(arrival, entry, greeting).await
}

async fn greet(
    arrival: &Arrival,
    entry: &Entry,
    stream: TcpStream,
) -> Result<greeting::Greeting<TcpStream>, Refused> {
    let instance = entry.instance.as_deref().unwrap_or_default().to_owned();
    let instance = Instance::try_from(instance).map_err(Refused)?;
    let common_name = format!("{}:{}", instance.project, instance.id);
    let names = arrival.room.instances.dns_names(&entry.name);
    let house = &arrival.house;
    let accepted = house.connector.accept(&common_name, &names, stream).await;
    let (tls, whose) = accepted.map_err(|error| {
        Refused(format!(
            "the TLS handshake of a Cloud SQL connector failed: {error} (it needs a certificate that generateEphemeralCert gave it in this session)"
        ))
    })?;
    let stream = Stream::Tls(Box::new(tls.into()));
    let greeting = greeting::converse(stream, &house.database_acceptor, &arrival.host).await;
    let mut greeting = greeting.map_err(Refused)?;
    if whose.session != arrival.room.session.id.as_str() || whose.entry != *entry.name {
        greeting.guest = Err(Complaint::new(
            "28000",
            "Holdpoint does not let this connector in: its certificate was signed for another session or another instance",
        )
        .hint("A certificate is good in the session that asked for it. Make a new connector in this one."));
    }
    Ok(greeting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_names_its_instance() {
        let of = |name| instance_of(name);
        assert_eq!(
            of("//sqladmin.googleapis.com/projects/p/instances/i"),
            Some(("p", "i"))
        );
        assert_eq!(
            of("//sqladmin.googleapis.com/projects/p/instances/i/connectSettings"),
            Some(("p", "i"))
        );
        assert_eq!(of("//sqladmin.googleapis.com/projects/p"), None);
        assert_eq!(
            of("//sqladmin.googleapis.com/projects/p/x/instances/i"),
            None
        );
        assert_eq!(of("//storage.googleapis.com/projects/p/instances/i"), None);
    }
}
