//! Runs in a session and never rests: asks for what is allowed, and tries what is not. Writes down how that went, a line of JSON every 50 ms.

use std::{
    cell::RefCell,
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use holdpoint_tests::{
    client,
    network::{BEYOND, BEYOND_V6},
    tally::{self, Tally},
    world::INSTANCES_URL,
};
use http::Uri;
use tokio::{
    net::{TcpStream, UdpSocket},
    task::LocalSet,
    time::{sleep, timeout},
};

/// Whoever gets no answer for this long has to do with a daemon that is frozen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts of one kind. Connections are recorded, and a daemon reads all of its record when it starts.
const PAUSE: Duration = Duration::from_millis(80);
const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Asks and tries, for ever.
#[derive(Parser)]
struct Args {
    /// Where it says which session it is in, is told to begin, and writes down how it went.
    dir: PathBuf,
}

type Log = Rc<RefCell<Tally>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let dir = Args::parse().dir;
    let session = std::env::var("HOLDPOINT_SESSION").context("this runs in a session")?;
    announce(&dir, &session)?;
    while !dir.join(tally::go(&session)).exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let log = Log::default();
    let tasks = LocalSet::new();
    tasks.spawn_local(ask(log.clone()));
    for address in [BEYOND, BEYOND_V6, "8.8.8.8", "169.254.169.254"] {
        let address: IpAddr = address.parse()?;
        tasks.spawn_local(connect(log.clone(), address));
        tasks.spawn_local(send(log.clone(), address));
        tasks.spawn_local(look_up(log.clone(), address));
    }
    tasks.spawn_local(be_rude(log.clone()));
    tasks.run_until(write_down(log, &dir)).await
}

/// The session's name, in one piece.
fn announce(dir: &Path, session: &str) -> io::Result<()> {
    let draft = dir.join("session.new");
    fs::write(&draft, session)?;
    fs::rename(draft, dir.join(tally::SESSION))
}

async fn write_down(log: Log, dir: &Path) -> anyhow::Result<()> {
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join(tally::FILE))?;
    loop {
        sleep(Duration::from_millis(50)).await;
        let tally = std::mem::take(&mut *log.borrow_mut());
        let line = serde_json::to_string(&tally)? + "\n";
        file.write_all(line.as_bytes())?;
    }
}

/// Asks for what policy allows, on new connections and on a kept one.
async fn ask(log: Log) {
    let url: Uri = INSTANCES_URL.parse().expect("a URL");
    let tls = client::trusting(Path::new(CA_FILE)).expect("the sandbox has certificates");
    let host = url.host().expect("it has one");
    let mut kept = None;
    loop {
        sleep(PAUSE).await;
        let asked = timeout(PATIENCE, async {
            let mut fresh = open(&log, host, &tls).await?;
            client::get(&mut fresh, &url, None).await?;
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => open(&log, host, &tls).await?,
            };
            let (status, _) = client::get(&mut sender, &url, None).await?;
            kept = Some(sender);
            anyhow::Ok(status)
        });
        let how = match asked.await {
            Ok(Ok(status)) => status.as_u16().to_string(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        log.borrow_mut().count("ask", &how);
    }
}

async fn open(
    log: &Log,
    host: &str,
    tls: &tokio_rustls::TlsConnector,
) -> anyhow::Result<client::Sender> {
    let mut addresses = tokio::net::lookup_host((host, 443)).await?;
    let address = addresses.next().context("no address")?;
    let stream = timed(log, "connect to Google", TcpStream::connect(address)).await?;
    client::greet(host, stream, tls).await
}

/// Connects to what is not Google.
async fn connect(log: Log, to: IpAddr) {
    loop {
        for port in [22, 80, 443, 8443] {
            sleep(PAUSE).await;
            let connecting = TcpStream::connect(SocketAddr::new(to, port));
            if let Ok(stream) = timed(&log, "connect elsewhere", connecting).await {
                let _what_it_says = timeout(PATIENCE, read_one(&stream)).await;
            }
        }
    }
}

async fn read_one(stream: &TcpStream) -> io::Result<usize> {
    // Speaks first, so that nobody waits for it to.
    let _ = stream.try_write(b"GET / HTTP/1.1\r\n\r\n");
    stream.readable().await?;
    stream.try_read(&mut [0; 64])
}

/// Sends datagrams, connected and not.
async fn send(log: Log, to: IpAddr) {
    loop {
        for port in [9, 123, 443, 51820] {
            sleep(PAUSE).await;
            let to = SocketAddr::new(to, port);
            let sent = async {
                let loose = any_udp(to).await?;
                let by_sendto = loose.send_to(b"out", to).await;
                let bound = any_udp(to).await?;
                bound.connect(to).await?;
                bound.send(b"out").await?;
                by_sendto
            };
            // The metadata server's address is the session's own, but UDP is not spoken there.
            let _refused = timed(&log, "send a datagram", sent).await;
        }
    }
}

async fn any_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await
}

/// Asks resolvers of its own choice for names, over UDP and TCP.
async fn look_up(log: Log, resolver: IpAddr) {
    let to = SocketAddr::new(resolver, 53);
    let query = query("secret.example.com");
    loop {
        sleep(PAUSE).await;
        let asked = async {
            let socket = any_udp(to).await?;
            socket.send_to(&query, to).await?;
            let answered = timeout(Duration::from_millis(500), socket.recv(&mut [0; 512])).await;
            answered.unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
        };
        let how = kind(&asked.await);
        log.borrow_mut().count("look up", &how);
        let _refused = timed(&log, "connect to a resolver", TcpStream::connect(to)).await;
    }
}

/// A question of RFC 1035 for an address.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Makes sockets of kinds that nobody may have.
async fn be_rude(log: Log) {
    let kinds = [
        ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw v6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("ping", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ("sctp", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("packet", libc::AF_PACKET, libc::SOCK_DGRAM, 0x0300),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    ];
    loop {
        for (name, family, kind, protocol) in kinds {
            sleep(PAUSE).await;
            // SAFETY: takes no pointer.
            let socket = unsafe { libc::socket(family, kind, protocol) };
            if socket >= 0 {
                log.borrow_mut().leaks.push(format!("a {name} socket"));
                // SAFETY: ours, and used nowhere else.
                unsafe { libc::close(socket) };
            }
            log.borrow_mut().count("make a socket", "refused");
        }
    }
}

/// Counts how something ends, and how long that takes.
async fn timed<T>(
    log: &Log,
    what: &str,
    doing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let begin = Instant::now();
    let done = timeout(PATIENCE, doing)
        .await
        .unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    let mut log = log.borrow_mut();
    log.count(what, &kind(&done));
    if done.is_err() {
        log.refused_after(begin.elapsed());
    }
    done
}

fn kind<T>(result: &io::Result<T>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => error.kind().to_string(),
    }
}
