//! The outside world: a network namespace at the other end of the cable, in which nothing of a sandbox may be seen.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::{
    cable, listen,
    places::{FAR, FAR_LINK_LOCAL, FAR_V4, FAR_V6, NEAR, PORT},
    seen::Seen,
};
use crate::{
    doctor::attack::other_socket,
    launch::sys::loopback_up,
    tls::{self, Authority},
};

/// Its CA is in here, and the daemon trusts it as Google's.
pub const AUTHORITY: &str = "/mnt/outside";

/// Makes it, with the cable from the caller's network namespace, and returns once it listens. Its threads end with the process.
///
/// # Errors
/// When the kernel refuses.
pub fn open(seen: &Seen) -> anyhow::Result<()> {
    let stage =
        File::open("/proc/thread-self/ns/net").context("cannot open the stage's network")?;
    let seen = seen.clone();
    let (ready, opened) = mpsc::channel();
    thread::Builder::new()
        .name("outside".into())
        .spawn(move || match prepare(&stage, &seen) {
            Ok(acceptor) => run(acceptor, seen, &ready),
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        })?;
    opened.recv().context("the outside world ended")?
}

fn prepare(stage: &File, seen: &Seen) -> anyhow::Result<TlsAcceptor> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    cable::trust_addresses();
    loopback_up()?;
    cable::lay(FAR, NEAR, stage.as_fd())?;
    cable::plug_in(FAR, FAR_V4, &[FAR_V6, FAR_LINK_LOCAL])
        .context("cannot set the outside's interface up")?;
    cable::settle();
    let sniffer = sniffer().context("cannot watch the cable")?;
    let seen = seen.clone();
    thread::Builder::new()
        .name("sniffer".into())
        .spawn(move || sniff(&sniffer, &seen))?;
    acceptor()
}

/// Google's own certificate for any name, and HTTP/1.1 alone, so that what arrives can be read as it was sent.
fn acceptor() -> anyhow::Result<TlsAcceptor> {
    std::fs::create_dir(AUTHORITY)?;
    let leaves = tls::Leaves::new(Authority::open(Path::new(AUTHORITY))?)?;
    let acceptor = tls::acceptor(Arc::new(leaves))?;
    let mut config = (**acceptor.config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Sees every frame on the cable, whatever it is.
fn sniffer() -> io::Result<OwnedFd> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    other_socket(libc::AF_PACKET, libc::SOCK_RAW, all.into())
}

fn sniff(cable: &OwnedFd, seen: &Seen) {
    let mut frame = vec![0; 128 << 10];
    loop {
        match nix::unistd::read(cable, &mut frame) {
            Ok(length) => seen.note(&frame[..length]),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENETDOWN) => {}
            Err(_) => return,
        }
    }
}

fn run(acceptor: TlsAcceptor, seen: Seen, ready: &mpsc::Sender<anyhow::Result<()>>) {
    let runtime = match listen::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let listening = listeners(acceptor, seen).await;
        let _ = ready.send(listening);
        std::future::pending::<()>().await;
    });
}

async fn listeners(acceptor: TlsAcceptor, seen: Seen) -> anyhow::Result<()> {
    for port in [53, 80, 853, PORT] {
        tokio::spawn(listen::tcp(listen::everywhere(port).await?, seen.clone()));
    }
    let https = listen::everywhere(443).await?;
    tokio::spawn(tls_server(https, acceptor, seen.clone()));
    for address in [FAR_V4.into(), FAR_V6.into()] {
        let address: std::net::IpAddr = address;
        // Without IPv6 there is none.
        if let Ok(dns) = UdpSocket::bind((address, 53)).await {
            tokio::spawn(no_such_name(dns));
        }
    }
    Ok(())
}

async fn tls_server(listener: TcpListener, acceptor: TlsAcceptor, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                listen::hear(stream, &seen).await;
            }
        });
    }
}

/// Answers NXDOMAIN to whatever is asked (RFC 1035, section 4.1.1). What was asked the sniffer has seen.
async fn no_such_name(socket: UdpSocket) {
    let mut message = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut message).await {
        if let [_, _, flags, code, ..] = &mut message[..length] {
            *flags |= 0x80;
            *code = 3;
            let _ = socket.send_to(&message[..length], from).await;
        }
    }
}
