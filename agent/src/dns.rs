//! The DNS server of a session. It answers from its own book and asks nobody: what policy does not know does not resolve,
//! and what it knows resolves to an address that only means something inside the session, where every connection ends at
//! the proxy anyway. A query that carries data out in a name carries it no further than here.

mod answer;
mod book;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use self::answer::{Answer, answer};
pub use self::book::AddressBook;
pub(crate) use self::book::is_localhost;
use crate::{
    config::UnknownNames,
    metrics::{Lookup, metrics},
};

/// A query has a name of 255 bytes at most and a few options.
const LONGEST_QUERY: usize = 4096;
/// Clients use TCP rarely, one connection each.
const MOST_CONNECTIONS: usize = 64;
/// A few seconds, as RFC 7766, section 6.2.3 recommends.
const CONNECTION_IDLE: Duration = Duration::from_secs(3);
const MOST_QUERIES_PER_CONNECTION: usize = 1000;
/// Slows down a loop whose socket reports one error after the other.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// What a session's resolver goes by.
pub trait Names: Send + Sync + 'static {
    /// Whether policy knows a name, in lower case and without the dot at its end.
    fn knows(&self, name: &str) -> bool;

    /// What to say of others.
    fn unknown(&self) -> UnknownNames {
        UnknownNames::default()
    }

    /// Somebody asked for one that policy does not know.
    fn refused(&self, _name: &str) {}
}

impl<F: Fn(&str) -> bool + Send + Sync + 'static> Names for F {
    fn knows(&self, name: &str) -> bool {
        self(name)
    }
}

/// Answers queries on these sockets until dropped.
pub async fn serve(
    book: Arc<AddressBook>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    names: impl Names,
) {
    let names = Arc::new(names);
    let mut servers = JoinSet::new();
    for socket in udp {
        servers.spawn(serve_udp(Arc::clone(&book), socket, Arc::clone(&names)));
    }
    for listener in tcp {
        servers.spawn(serve_tcp(Arc::clone(&book), listener, Arc::clone(&names)));
    }
    while servers.join_next().await.is_some() {}
}

async fn serve_udp(book: Arc<AddressBook>, socket: UdpSocket, names: Arc<impl Names>) {
    let mut query = vec![0; LONGEST_QUERY];
    loop {
        if let Err(error) = answer_datagram(&book, &socket, &mut query, &*names).await {
            tracing::debug!(%error, "DNS over UDP");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

async fn answer_datagram(
    book: &AddressBook,
    socket: &UdpSocket,
    query: &mut [u8],
    names: &impl Names,
) -> io::Result<()> {
    let (length, client): (usize, SocketAddr) = socket.recv_from(query).await?;
    if let Some(answer) = answer(book, names, &query[..length]) {
        account_for(&answer, names);
        socket.send_to(&answer.bytes, client).await?;
    }
    Ok(())
}

fn account_for(answer: &Answer, names: &impl Names) {
    metrics().looked_up(answer.lookup);
    if let (Lookup::Unknown, Some(name)) = (answer.lookup, &answer.name) {
        names.refused(name.strip_suffix('.').unwrap_or(name));
    }
}

async fn serve_tcp(book: Arc<AddressBook>, listener: TcpListener, names: Arc<impl Names>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (book, names) = (Arc::clone(&book), Arc::clone(&names));
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = answer_connection(&book, stream, &*names).await {
                        tracing::debug!(%error, "DNS over TCP");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "DNS over TCP");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Messages over TCP have their length before them (RFC 1035, section 4.2.2).
async fn answer_connection(
    book: &AddressBook,
    mut stream: TcpStream,
    names: &impl Names,
) -> io::Result<()> {
    let mut query = vec![0; LONGEST_QUERY];
    for _ in 0..MOST_QUERIES_PER_CONNECTION {
        let exchange = async {
            let length = usize::from(stream.read_u16().await?);
            let query = query.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            stream.read_exact(query).await?;
            let answer = answer(book, names, query).ok_or(io::ErrorKind::InvalidData)?;
            account_for(&answer, names);
            let answer = answer.bytes;
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream
                .write_all(&[&length.to_be_bytes(), &answer[..]].concat())
                .await
        };
        match timeout(CONNECTION_IDLE, exchange).await? {
            Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{Message, Query},
        rr::{Name, RData, RecordType, rdata::A},
    };

    use super::*;

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(
            Name::from_ascii(name).expect("a name"),
            RecordType::A,
        ));
        message.to_vec().expect("a message")
    }

    fn address(answer: &[u8]) -> Option<Ipv4Addr> {
        let answer = Message::from_vec(answer).expect("a message");
        match &answer.answers.first()?.data {
            RData::A(A(address)) => Some(*address),
            other => panic!("not an A record: {other:?}"),
        }
    }

    #[tokio::test]
    async fn udp_and_tcp_give_the_same_answers() {
        let book = Arc::new(AddressBook::default());
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let udp_address = udp.local_addr().expect("bound");
        let tcp_address = tcp.local_addr().expect("bound");
        let known = |name: &str| name == "storage.googleapis.com";
        let server = tokio::spawn(serve(Arc::clone(&book), vec![udp], vec![tcp], known));

        let client = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        client.send_to(b"garbage", udp_address).await.expect("sent");
        client
            .send_to(&query("Storage.GoogleAPIs.com."), udp_address)
            .await
            .expect("sent");
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).await.expect("an answer");
        let over_udp = address(&buffer[..length]).expect("an address");
        let name = book.name_of(over_udp.into());
        assert_eq!(name.as_deref(), Some("storage.googleapis.com"));

        let mut stream = TcpStream::connect(tcp_address).await.expect("connected");
        for (name, expected) in [
            ("storage.googleapis.com.", Some(over_udp)),
            ("example.com.", None),
        ] {
            let query = query(name);
            stream.write_u16(query.len() as u16).await.expect("sent");
            stream.write_all(&query).await.expect("sent");
            let mut answer = vec![0; stream.read_u16().await.expect("a length").into()];
            stream.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(address(&answer), expected);
        }

        // Too long, or no query at all: closed without an answer.
        for bytes in [&[0xff, 0xff][..], &[0, 3, 1, 2, 3]] {
            let mut stream = TcpStream::connect(tcp_address).await.expect("connected");
            stream.write_all(bytes).await.expect("sent");
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
        server.abort();
        assert!(server.await.expect_err("aborted").is_cancelled());
        assert!(
            TcpStream::connect(tcp_address).await.is_err(),
            "listeners close with the server"
        );
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_others_out_for_ever() {
        let book = Arc::new(AddressBook::default());
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = tcp.local_addr().expect("bound");
        let server = tokio::spawn(serve(book, Vec::new(), vec![tcp], |_: &str| true));
        let mut idle = Vec::new();
        for _ in 0..MOST_CONNECTIONS + 1 {
            idle.push(TcpStream::connect(address).await.expect("connected"));
        }
        let last = idle.last_mut().expect("there are some");
        let query = query("a.example.");
        last.write_u16(query.len() as u16).await.expect("sent");
        last.write_all(&query).await.expect("sent");
        let soon = timeout(Duration::from_millis(200), last.read_u16()).await;
        assert!(
            soon.is_err(),
            "more connections are served than there are places"
        );
        let later = timeout(CONNECTION_IDLE + Duration::from_secs(2), last.read_u16()).await;
        later.expect("a place was freed").expect("an answer");
        server.abort();
    }
}
