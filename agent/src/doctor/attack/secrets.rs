//! Credentials: those of whoever started the session, and the daemon's own.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{Attack, no, succeed};
use crate::doctor::stage::places::{CREDENTIAL, METADATA, METADATA_V6};

/// Variables that a caller has and a session must not.
pub const VARIABLES: [&str; 5] = [
    "HOLDPOINT_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "SSH_AUTH_SOCK",
];

pub const ATTACKS: &[Attack] = &[
    succeed(
        "environment",
        "credentials in the environment",
        |_| match VARIABLES
            .iter()
            .find(|name| std::env::var_os(name).is_some())
        {
            Some(_) => Ok(()),
            None => Err(no("there are none")),
        },
    ),
    succeed(
        "parent-environment",
        "credentials in ancestors' environments",
        |_| ancestors_environment(),
    ),
    succeed("metadata", "an access token of the metadata server", |_| {
        token((METADATA, 80).into(), "token")
    }),
    succeed("metadata6", "the same over IPv6", |_| {
        token((METADATA_V6, 80).into(), "token")
    }),
    succeed(
        "metadata-identity",
        "an identity token of the metadata server",
        |_| {
            token(
                (METADATA, 80).into(),
                "identity?audience=https://tunnel.example",
            )
        },
    ),
];

fn ancestors_environment() -> io::Result<()> {
    let parent = std::os::unix::process::parent_id();
    for process in ["self".to_owned(), parent.to_string(), "1".to_owned()] {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        if environment
            .split('\0')
            .any(|entry| VARIABLES.iter().any(|name| entry.starts_with(name)))
        {
            return Ok(());
        }
    }
    Err(no("there are none"))
}

/// Only the stage's own metadata server gives out what begins like this.
fn token(server: SocketAddr, what: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(
        stream,
        "GET /computeMetadata/v1/instance/service-accounts/default/{what} HTTP/1.1\r\n\
         host: metadata.google.internal\r\nmetadata-flavor: Google\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    if String::from_utf8_lossy(&answer).contains(CREDENTIAL) {
        Ok(())
    } else {
        Err(no("only a placeholder came"))
    }
}
