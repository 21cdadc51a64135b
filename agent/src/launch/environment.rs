//! The environment a sandboxed command gets: the caller's, without credentials and detours, with Holdpoint's CA.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use super::message::Octets;

/// Where the OIDC token may be; also the one variable that is never to be sent.
pub const TOKEN: &str = "HOLDPOINT_TOKEN";
/// The session's id, for whoever wants to know whether it runs in one.
pub const SESSION: &str = "HOLDPOINT_SESSION";

/// Where a user's programs put their sockets (XDG Base Directory Specification).
const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// Variables that tell some client which CA certificates to trust. gcloud lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE override
/// its own, so all are replaced, not only those that are set.
const CA_BUNDLE: [&str; 13] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Variables a session must not have.
const REMOVED: [&str; 27] = [
    // OIDC tokens open sessions; a sandbox must not be able to ask CI for one.
    TOKEN,
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    // Google credentials: the metadata server is the only source inside.
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_BACKEND_CREDENTIALS",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GCLOUD_KEYFILE_JSON",
    // Detours around the metadata server.
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "GCE_METADATA_ROOT",
    "GCE_METADATA_MTLS_MODE",
    "METADATA_SERVER_DETECTION",
    "NO_GCE_CHECK",
    // Certificates one by one instead of in a bundle.
    "SSL_CERT_DIR",
    // Services of the user outside of the session; their sockets are hidden (see `mounts`) or hold keys.
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    // Container engines of the host.
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "CONTAINER_HOST",
    // Replaced.
    RUNTIME_DIR,
    SESSION,
];

/// Families of such variables.
const REMOVED_PREFIXES: [&str; 2] = ["CLOUDSDK_AUTH_", "CLOUDSDK_PROXY_"];

/// Proxies, in whatever case: connections are redirected by the kernel, and to no other proxy.
const PROXIES: [&str; 10] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "GRPC_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_GRPC_PROXY",
    "NO_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_PROXY",
    "SOCKS_PROXY",
];

/// The environment of a session's command, from that of its caller (`NAME=value` each). Later settings of a name win.
pub fn for_session(
    caller: Vec<Octets>,
    uid: u32,
    session: &str,
    ca_bundle: &Path,
    project: Option<&str>,
) -> Vec<Octets> {
    let mut environment: Vec<_> = caller
        .into_iter()
        .filter(|entry| kept(name(entry)))
        .collect();
    environment.extend(CA_BUNDLE.map(|name| entry(name, ca_bundle.as_os_str().as_bytes())));
    environment.push(entry(SESSION, session.as_bytes()));
    let runtime_dir = format!("/run/user/{uid}");
    environment.push(entry(RUNTIME_DIR, runtime_dir.as_bytes()));
    if let Some(project) = project {
        // SDKs look here before they ask the metadata server; gcloud has settings of its own and does not look.
        if !environment
            .iter()
            .any(|entry| name(entry) == b"GOOGLE_CLOUD_PROJECT")
        {
            environment.push(entry("GOOGLE_CLOUD_PROJECT", project.as_bytes()));
        }
    }
    environment
}

/// The value of a variable.
pub fn value<'a>(environment: &'a [Octets], wanted: &str) -> Option<&'a [u8]> {
    let entry = environment
        .iter()
        .find(|entry| name(entry) == wanted.as_bytes())?;
    entry.0.get(wanted.len() + 1..)
}

fn name(entry: &Octets) -> &[u8] {
    entry
        .0
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
}

/// `NAME=value`.
pub fn entry(name: &str, value: &[u8]) -> Octets {
    Octets([name.as_bytes(), b"=", value].concat())
}

fn kept(name: &[u8]) -> bool {
    let is = |other: &&str| other.as_bytes() == name;
    let upper = name.to_ascii_uppercase();
    !CA_BUNDLE.iter().any(is)
        && !REMOVED.iter().any(is)
        && !REMOVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix.as_bytes()))
        && !PROXIES.iter().any(|other| other.as_bytes() == upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_of(caller: &[&str]) -> Vec<String> {
        let caller = caller
            .iter()
            .map(|entry| Octets(entry.as_bytes().to_vec()))
            .collect();
        for_session(caller, 7, "s-1", Path::new("/run/hp/ca.pem"), Some("p-1"))
            .into_iter()
            .map(|entry| String::from_utf8(entry.0).expect("was UTF-8"))
            .collect()
    }

    #[test]
    fn what_leads_elsewhere_is_gone_and_the_rest_stays() {
        let environment = session_of(&[
            "PATH=/bin",
            "HOLDPOINT_TOKEN=t",
            "https_proxy=http://x",
            "No_Proxy=*",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE=/t",
            "CLOUDSDK_CORE_ACCOUNT=a",
            "GOOGLE_APPLICATION_CREDENTIALS=/k",
            "GCE_METADATA_HOST=h",
            "EMPTY=",
            "A=b=c",
        ]);
        let caller: Vec<_> = environment
            .iter()
            .filter(|entry| !entry.contains("/run/hp/ca.pem"))
            .collect();
        assert_eq!(
            caller,
            [
                "PATH=/bin",
                "CLOUDSDK_CORE_ACCOUNT=a",
                "EMPTY=",
                "A=b=c",
                "HOLDPOINT_SESSION=s-1",
                "XDG_RUNTIME_DIR=/run/user/7",
                "GOOGLE_CLOUD_PROJECT=p-1"
            ]
        );
    }

    #[test]
    fn every_ca_variable_is_replaced() {
        let environment = session_of(&[
            "CURL_CA_BUNDLE=/evil",
            "SSL_CERT_DIR=/evil",
            "HOLDPOINT_SESSION=s-0",
        ]);
        assert!(
            environment
                .iter()
                .all(|entry| !entry.contains("evil") && !entry.contains("s-0"))
        );
        for name in CA_BUNDLE {
            assert!(
                environment.contains(&format!("{name}=/run/hp/ca.pem")),
                "{name}"
            );
        }
    }

    #[test]
    fn the_callers_project_stays() {
        let environment = session_of(&["GOOGLE_CLOUD_PROJECT=mine"]);
        assert!(environment.contains(&"GOOGLE_CLOUD_PROJECT=mine".to_owned()));
        assert!(!environment.contains(&"GOOGLE_CLOUD_PROJECT=p-1".to_owned()));
    }
}
