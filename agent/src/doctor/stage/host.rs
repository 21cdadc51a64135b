//! What a host has, on the stage: services behind sockets, listeners on loopback, a metadata server, an issuer, and somebody who
//! hands out sockets.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::{fs::PermissionsExt as _, net as unix},
    },
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen as start_listening, socket,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener},
    task::AbortHandle,
};

use super::{
    issuer::Issuer,
    listen,
    places::{
        ABSTRACT, CREDENTIAL, DROP, FAR_V4, HAND_OVER, INBOUND_PORT, ISSUER_PORT, LOOPBACK_PORT,
        METADATA, METADATA_V6, PORT, SHARED_DIRECTORIES, far,
    },
    seen::Seen,
};
use crate::{
    doctor::attack::{SHARED_STAND_INS, STAND_INS},
    launch::{PROXY_PORT, sys::send_with},
};

/// Opens all of it in the caller's namespaces, and returns once it listens. The proxy that is open to everybody closes when what is
/// returned is dropped.
///
/// # Errors
/// When something cannot be opened.
pub fn open(seen: &Seen, issuer: Issuer) -> anyhow::Result<OpenProxy> {
    let seen = seen.clone();
    let (ready, opened) = mpsc::channel();
    thread::Builder::new()
        .name("host".into())
        .spawn(move || match listen::runtime() {
            Ok(runtime) => runtime.block_on(async {
                let _ = ready.send(services(seen, issuer).await);
                std::future::pending::<()>().await;
            }),
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        })?;
    opened.recv().context("the stage's services ended")?
}

/// Only what is outside may find it: a session's own proxy is at the same port.
pub struct OpenProxy(AbortHandle);

impl Drop for OpenProxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn services(seen: Seen, issuer: Issuer) -> anyhow::Result<OpenProxy> {
    for path in STAND_INS.iter().chain(SHARED_STAND_INS) {
        tokio::spawn(listen::unix(unix_listener(path)?, seen.clone()));
    }
    tokio::spawn(hand_over(unix_listener(HAND_OVER)?));
    abstract_sockets(&seen)?;

    let loopback = listen::everywhere(LOOPBACK_PORT).await?;
    tokio::spawn(listen::tcp(loopback, seen.clone()));
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, LOOPBACK_PORT)).await?;
    tokio::spawn(datagrams(udp, seen.clone()));
    tokio::spawn(read_drops(seen.clone()));
    tokio::spawn(call(seen));

    tokio::spawn(issue(
        TcpListener::bind((Ipv4Addr::LOCALHOST, ISSUER_PORT)).await?,
        issuer,
    ));
    tokio::spawn(metadata(TcpListener::bind((METADATA, 80)).await?));
    // Without IPv6 there is none.
    if let Ok(listener) = TcpListener::bind((METADATA_V6, 80)).await {
        tokio::spawn(metadata(listener));
    }
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT)).await?;
    Ok(OpenProxy(tokio::spawn(open_proxy(proxy)).abort_handle()))
}

fn unix_listener(path: &str) -> anyhow::Result<UnixListener> {
    let path = Path::new(path);
    let listener = fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| UnixListener::bind(path))
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn abstract_sockets(seen: &Seen) -> anyhow::Result<()> {
    let listener = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&listener),
        &UnixAddr::new_abstract(ABSTRACT.as_bytes())?,
    )?;
    start_listening(&listener, Backlog::new(16)?)?;
    let listener = UnixListener::from_std(listener.into())?;
    tokio::spawn(listen::unix(listener, seen.clone()));

    let address = unix::SocketAddr::from_abstract_name(format!("{ABSTRACT}-datagram"))?;
    let socket = unix::UnixDatagram::bind_addr(&address)?;
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    let seen = seen.clone();
    tokio::spawn(async move {
        let mut datagram = [0; 1500];
        while let Ok(length) = socket.recv(&mut datagram).await {
            seen.note(&datagram[..length]);
        }
    });
    Ok(())
}

async fn datagrams(socket: UdpSocket, seen: Seen) {
    let mut datagram = [0; 1500];
    while let Ok(length) = socket.recv(&mut datagram).await {
        seen.note(&datagram[..length]);
    }
}

/// The accomplice: gives everybody who asks fresh sockets of a network that leads somewhere.
async fn hand_over(listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut sockets = fresh_sockets();
        sockets.extend(connected_socket());
        let fds: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
        let _ = stream.writable().await;
        let _ = stream.try_io(tokio::io::Interest::WRITABLE, || {
            send_with(stream.as_fd(), b"!", &fds)
        });
    }
}

/// In the order of `attack::sockets`. Without IPv6 there are IPv4 ones in its places, which refuse IPv6 addresses.
fn fresh_sockets() -> Vec<OwnedFd> {
    let make = |family, kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
    [SockType::Stream, SockType::Datagram]
        .into_iter()
        .flat_map(|kind| {
            let v6 = make(AddressFamily::Inet6, kind).or_else(|_| make(AddressFamily::Inet, kind));
            [make(AddressFamily::Inet, kind), v6]
        })
        .flatten()
        .collect()
}

/// After those.
fn connected_socket() -> Option<OwnedFd> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(far(FAR_V4, PORT)).ok()?;
    Some(socket.into())
}

/// Somebody outside who calls whoever listens.
async fn call(seen: Seen) {
    let addresses: [SocketAddr; 2] = [
        (Ipv4Addr::LOCALHOST, INBOUND_PORT).into(),
        (Ipv6Addr::LOCALHOST, INBOUND_PORT).into(),
    ];
    loop {
        for address in addresses {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                seen.note(&listen::read(&mut stream).await);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Somebody outside who reads what turns up in shared directories, as a build that is cached there would be.
async fn read_drops(seen: Seen) {
    loop {
        for directory in SHARED_DIRECTORIES {
            let place = Path::new(directory).join(DROP);
            for file in fs::read_dir(place).into_iter().flatten().flatten() {
                seen.note(&fs::read(file.path()).unwrap_or_default());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn issue(listener: TcpListener, issuer: Issuer) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let request = listen::read(&mut stream).await;
        let document = issuer.document(&String::from_utf8_lossy(&request));
        let _ = listen::answer(&mut stream, &document).await;
    }
}

/// Gives everybody who asks the credential of the host, as the real one does.
async fn metadata(listener: TcpListener) {
    let token = crate::session::random_id(CREDENTIAL);
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = listen::read(&mut stream).await;
        let json =
            format!(r#"{{"access_token":"{token}","expires_in":3599,"token_type":"Bearer"}}"#);
        let _ = listen::answer(&mut stream, &json).await;
    }
}

/// What would be at the proxy's port if it were open to everybody.
async fn open_proxy(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(far(FAR_V4, PORT)).await {
                let request = listen::read(&mut client).await;
                let _ = server.write_all(&request).await;
                let mut answer = Vec::new();
                let _ = server.read_to_end(&mut answer).await;
                let _ = client.write_all(&answer).await;
            }
        });
    }
}
