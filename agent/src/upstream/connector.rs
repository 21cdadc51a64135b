//! From a URI to a connection: address overrides, TCP, TLS.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::explain;
use crate::{dns::is_localhost, metadata::is_metadata_address};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Refuses what must not travel in clear: `https` goes anywhere, `http` to this machine and its metadata server.
pub(crate) fn check_scheme(uri: &Uri) -> Result<(), &'static str> {
    let host = uri.host().ok_or("its URI has no host")?;
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(()),
        Some(scheme) if *scheme == Scheme::HTTP => {
            if is_loopback(host) || is_metadata_server(host) {
                Ok(())
            } else {
                Err("http is for loopback and the metadata server only, use https")
            }
        }
        _ => Err("its scheme is neither https nor http"),
    }
}

/// Whether the host of a URI is this machine by its form alone, whatever a resolver says.
pub(crate) fn is_loopback(host: &str) -> bool {
    match literal(host) {
        Some(ip) => ip.is_loopback(),
        None => is_localhost(host),
    }
}

fn is_metadata_server(host: &str) -> bool {
    literal(host).is_some_and(is_metadata_address)
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// Opens TCP connections, to the override of a host where there is one.
#[derive(Clone)]
pub(super) struct Dialer {
    addresses: Arc<BTreeMap<String, SocketAddr>>,
    tcp: HttpConnector<Resolver>,
}

impl Dialer {
    pub(super) fn new(addresses: &BTreeMap<String, SocketAddr>, timeout: Duration) -> Self {
        let addresses = addresses
            .iter()
            .map(|(name, address)| (canonical(name), *address))
            .collect();
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(timeout));
        Self {
            addresses: Arc::new(addresses),
            tcp,
        }
    }

    /// The address that stands for `host`: the exact name's, else that of the longest `*.suffix`, else `*`'s.
    /// Patterns are about names in DNS: they cover neither IP addresses nor `localhost`.
    fn overridden(&self, host: &str) -> Option<SocketAddr> {
        let host = canonical(host);
        if let Some(address) = self.addresses.get(&host) {
            return Some(*address);
        }
        if literal(&host).is_some() || is_localhost(&host) {
            return None;
        }
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]);
        suffixes
            .map(|suffix| format!("*{suffix}"))
            .chain(["*".to_owned()])
            .find_map(|pattern| self.addresses.get(&pattern).copied())
    }

    pub(super) async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        if self.overridden(host).is_none() && (literal(host).is_some() || is_localhost(host)) {
            let kind = io::ErrorKind::PermissionDenied;
            return Err(io::Error::new(
                kind,
                "an address is no name of another host",
            ));
        }
        let target = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(format!("{host}:{port}"))
            .path_and_query("/")
            .build()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
        match self.clone().call(target).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(error) => Err(io::Error::other(format!(
                "cannot connect to {host}:{port}: {}",
                explain(&*error)
            ))),
        }
    }
}

/// Looks names up. What is this machine's own, its metadata server above all, has no name here but `localhost`: whoever
/// owns a name that policy allows could have it lead there.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let any = is_localhost(name.as_str());
        let found = self.0.call(name);
        Box::pin(async move {
            let found: Vec<_> = found
                .await?
                .filter(|address| any || is_elsewhere(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(io::Error::other("its name leads to this machine itself"));
            }
            Ok(found.into_iter())
        })
    }
}

/// Whether an address may be another machine's: neither this one's nor one on its link (RFC 6890).
fn is_elsewhere(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let on_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let here = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    !here && !on_link && !is_metadata_address(ip)
}

/// Lower case, and without the dot that ends a fully qualified name.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        // An address in the URI is dialled as it stands, port included; the name is with TLS, above this layer.
        let dialled = match target.host().and_then(|host| self.overridden(host)) {
            Some(address) => Uri::builder()
                .scheme(Scheme::HTTP)
                .authority(address.to_string())
                .path_and_query("/")
                .build()
                .map_err(BoxError::from),
            None => Ok(target),
        };
        let mut tcp = self.tcp.clone();
        Box::pin(async move { Ok(tcp.call(dialled?).await?) })
    }
}

/// Opens connections for the HTTP client: TCP and TLS within one time limit.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dialer>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(dialer: Dialer, tls: rustls::ClientConfig, timeout: Duration) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(dialer);
        Self { https, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.https.call(target));
        Box::pin(async move { connecting.await? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialer(addresses: &[(&str, &str)]) -> Dialer {
        let addresses = addresses
            .iter()
            .map(|(name, address)| ((*name).to_owned(), address.parse().expect("an address")))
            .collect();
        Dialer::new(&addresses, Duration::from_secs(1))
    }

    #[test]
    fn the_most_specific_override_counts() {
        let dialer = dialer(&[
            ("*", "192.0.2.1:1"),
            ("*.googleapis.com", "192.0.2.2:2"),
            ("*.sql.googleapis.com", "192.0.2.3:3"),
            ("Storage.googleapis.com.", "192.0.2.4:4"),
        ]);
        let port = |host| dialer.overridden(host).map(|address| address.port());
        assert_eq!(port("example.com"), Some(1));
        assert_eq!(
            port("googleapis.com"),
            Some(1),
            "a suffix covers what is below it"
        );
        assert_eq!(port("x.notgoogleapis.com"), Some(1));
        assert_eq!(port("compute.googleapis.com"), Some(2));
        assert_eq!(port("a.b.sql.googleapis.com"), Some(3));
        assert_eq!(port("STORAGE.googleapis.com"), Some(4));
        assert_eq!(port("storage.googleapis.com."), Some(4));
    }

    #[test]
    fn patterns_leave_this_machine_alone() {
        let dialer = dialer(&[("*", "192.0.2.1:1"), ("127.0.0.2", "192.0.2.2:2")]);
        assert_eq!(dialer.overridden("localhost"), None);
        assert_eq!(dialer.overridden("169.254.169.254"), None);
        assert_eq!(dialer.overridden("[::1]"), None);
        assert!(
            dialer.overridden("127.0.0.2").is_some(),
            "named, not covered by a pattern"
        );
    }

    #[test]
    fn clear_text_stays_on_this_machine() {
        let allowed = |uri: &str| check_scheme(&uri.parse().expect("a URI")).is_ok();
        assert!(allowed("https://example.com/"));
        assert!(allowed("http://127.0.0.1:8080/"));
        assert!(allowed("http://[::1]/"));
        assert!(allowed("http://localhost/"));
        assert!(allowed("http://169.254.169.254/computeMetadata/v1/"));
        assert!(allowed("http://[fd20:ce::254]/"));
        assert!(!allowed("http://example.com/"));
        assert!(!allowed("http://10.0.0.1/"));
        assert!(!allowed("http://169.254.1.1/"));
        assert!(!allowed("http://127.0.0.1.example.com/"));
        assert!(!allowed("http://notlocalhost/"));
        assert!(!allowed("ftp://127.0.0.1/"));
        assert!(!allowed("/relative"));
    }

    #[test]
    fn names_lead_to_other_machines_only() {
        for good in [
            "192.0.2.1",
            "10.0.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_elsewhere(good.parse().expect("an address")), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(!is_elsewhere(bad.parse().expect("an address")), "{bad}");
        }
    }

    #[tokio::test]
    async fn nothing_is_passed_through_to_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback");
        let address = listener.local_addr().expect("bound");
        let name = address.to_string();
        let dialer = dialer(&[("named.example", &name)]);
        for host in [
            "127.0.0.1",
            "localhost",
            "x.localhost",
            "::1",
            "127.1",
            "0x7f000001",
        ] {
            assert!(dialer.dial(host, address.port()).await.is_err(), "{host}");
        }
        assert!(dialer.dial("named.example", 1).await.is_ok());
    }

    proptest! {
        #[test]
        fn any_host_is_looked_up_without_panic(host in "\\PC{0,40}") {
            let _ = dialer(&[("*.a", "192.0.2.1:1")]).overridden(&host);
        }
    }
}
