//! Google, as sessions see it and as Holdpoint reaches it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

/// Google, as the sandboxes see it and as Holdpoint reaches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Google {
    /// The project id the metadata server names. Asked of the host's metadata server when absent.
    pub project: Option<String>,
    /// The service account's e-mail the metadata server names. From the credential when absent.
    pub account: Option<String>,
    /// The zone the metadata server names.
    pub zone: Option<String>,
    /// The universe domain (`googleapis.com` outside of sovereign clouds).
    #[serde(default = "default_universe")]
    pub universe_domain: String,
    /// OAuth scopes of the credential.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Where the real credential comes from.
    pub credential: CredentialSource,
}

/// Where the credential used towards Google comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "from")]
pub enum CredentialSource {
    /// The host's own metadata server.
    Metadata {
        /// Its address, `169.254.169.254:80` unless told otherwise.
        #[serde(default = "default_metadata_address")]
        address: SocketAddr,
    },
    /// A service-account key file (JSON), readable by root only.
    ServiceAccountKey {
        /// The file. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
        file: PathBuf,
    },
}

/// How the real hosts are reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// PEM file of CA certificates to trust besides the system's (private endpoints, tests).
    pub ca_file: Option<PathBuf>,
    /// Addresses to dial instead of what DNS says, by host name; `*.example.com` covers all names below, `*` all.
    #[serde(default)]
    pub addresses: BTreeMap<String, SocketAddr>,
}

fn default_universe() -> String {
    "googleapis.com".into()
}

fn default_scopes() -> Vec<String> {
    vec!["https://www.googleapis.com/auth/cloud-platform".into()]
}

pub(super) fn default_metadata_address() -> SocketAddr {
    ([169, 254, 169, 254], 80).into()
}
