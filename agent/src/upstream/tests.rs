use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{testing::TestServer, *};

const SECOND: Duration = Duration::from_secs(1);

fn post(uri: &str, body: &'static str) -> Request<Bytes> {
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .body(Bytes::from_static(body.as_bytes()))
        .expect("a valid request")
}

fn streamed(request: Request<Bytes>) -> Request<ProxyBody> {
    request.map(|body| Full::new(body).map_err(|never| match never {}).boxed())
}

fn echo(seen: &testing::Seen) -> Response<Bytes> {
    Response::new(seen.body.clone())
}

/// A server that handles each connection by `handle`; the number of connections so far comes with it.
async fn raw_server<F>(handle: impl Fn(TcpStream, usize) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(handle(stream, number));
        }
    });
    address
}

/// Reads up to the end of a request's head and says whether there was one.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test]
async fn both_http_versions_over_tls_with_overrides_and_a_private_ca() {
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let server = TestServer::tls(&["sqladmin.googleapis.com"], &[alpn], echo).await;
        let upstream = Upstream::new(&server.settings()).expect("a client");
        for uri in [
            "https://sqladmin.googleapis.com/v1?a=b",
            "https://sqladmin.googleapis.com:8443/v1",
        ] {
            let answer = upstream
                .fetch(post(uri, "ping"), 4, 10 * SECOND)
                .await
                .expect("an answer");
            assert_eq!(answer.body(), "ping");
        }
        assert!(server.seen().iter().all(|seen| seen.version == version));
    }
}

#[tokio::test]
async fn certificates_are_verified() {
    let server = TestServer::tls(&["storage.googleapis.com"], &["h2"], echo).await;
    let upstream = Upstream::new(&server.settings()).expect("a client");
    let wrong_name = upstream
        .exchange(streamed(post("https://sqladmin.googleapis.com/", "")))
        .await;
    let text = match wrong_name {
        Err(SendError::NotSent { host, cause }) => format!("{host} {cause}"),
        other => panic!("a certificate for another name: {other:?}"),
    };
    assert!(
        text.contains("sqladmin.googleapis.com") && text.contains("ca_file"),
        "{text}"
    );

    let untrusting = config::Upstream {
        ca_file: None,
        ..server.settings()
    };
    let upstream = Upstream::new(&untrusting).expect("a client");
    let unknown_ca = upstream
        .exchange(streamed(post("https://storage.googleapis.com/", "")))
        .await;
    assert!(
        matches!(unknown_ca, Err(SendError::NotSent { .. })),
        "{unknown_ca:?}"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_issuers_ca_replaces_the_systems() {
    let server = TestServer::tls(&["issuer.example"], &["h2"], echo).await;
    let other = TestServer::tls(&["issuer.example"], &["h2"], echo).await;
    let request = || post("https://issuer.example/", "x");
    let trusting = Upstream::trusting_only(server.ca_file(), &server.settings()).expect("a client");
    trusting
        .fetch(request(), 10, 10 * SECOND)
        .await
        .expect("trusted");
    let misled = Upstream::trusting_only(other.ca_file(), &server.settings()).expect("a client");
    misled
        .fetch(request(), 10, 10 * SECOND)
        .await
        .expect_err("another CA");
}

#[tokio::test]
async fn refused_connections_and_clear_text_are_not_sent() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        listener.local_addr().expect("bound")
    };
    let settings = config::Upstream {
        addresses: [("nobody.example".to_owned(), nobody)].into(),
        ..config::Upstream::default()
    };
    let upstream = Upstream::new(&settings).expect("a client");
    for (uri, hint) in [
        (format!("http://{nobody}/"), "nothing listens there"),
        ("http://example.com/".to_owned(), "use https"),
    ] {
        match upstream.exchange(streamed(post(&uri, ""))).await {
            Err(SendError::NotSent { cause, .. }) => assert!(cause.contains(hint), "{cause}"),
            other => panic!("{uri}: {other:?}"),
        }
    }
    let text = upstream
        .dialer
        .dial("nobody.example", nobody.port())
        .await
        .expect_err("nobody listens")
        .to_string();
    assert!(
        text.contains("nobody.example") && text.contains("nothing listens"),
        "{text}"
    );
}

#[tokio::test]
async fn a_request_that_was_read_and_not_answered_has_an_unknown_outcome() {
    let address = raw_server(|mut stream, _| async move {
        read_head(&mut stream).await;
    })
    .await;
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    let outcome = upstream
        .exchange(streamed(post(&format!("http://{address}/"), "x")))
        .await;
    assert!(
        matches!(outcome, Err(SendError::Unknown { .. })),
        "{outcome:?}"
    );
}

/// The server closes every connection right after an answer, without saying so before: the worst moment for a pool.
#[tokio::test]
async fn stale_pooled_connections_never_send_a_request_twice() {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    let address = raw_server(move |mut stream, number| {
        let heads = Arc::clone(&counted);
        async move {
            // Every third connection reads a second request and dies on it.
            for answered in 0..=usize::from(number % 3 == 0) {
                if !read_head(&mut stream).await {
                    return;
                }
                heads.fetch_add(1, Ordering::SeqCst);
                if answered == 0 {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .await;
                }
            }
        }
    })
    .await;
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    let (mut arrived, mut not_sent) = (0, 0);
    for _ in 0..300 {
        match upstream
            .exchange(streamed(post(&format!("http://{address}/"), "")))
            .await
        {
            Ok(_) | Err(SendError::Unknown { .. }) => arrived += 1,
            Err(SendError::NotSent { .. }) => not_sent += 1,
        }
    }
    let seen = heads.load(Ordering::SeqCst);
    assert!(
        seen <= arrived,
        "{seen} requests arrived of {arrived} that may have, {not_sent} not sent"
    );
    assert!(seen > 100, "{seen} of 300 arrived at all");
}

#[tokio::test]
async fn fetch_is_bounded_in_size_and_time() {
    let server = TestServer::plain(echo).await;
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    let uri = format!("http://{}/", server.address);
    let long = upstream
        .fetch(post(&uri, "12345"), 4, 10 * SECOND)
        .await
        .expect_err("too long");
    assert!(long.to_string().contains("longer than 4 bytes"), "{long}");

    let silent =
        raw_server(|mut stream, _| async move { while read_head(&mut stream).await {} }).await;
    let late = upstream
        .fetch(
            post(&format!("http://{silent}/path?token=1"), ""),
            4,
            SECOND / 10,
        )
        .await
        .expect_err("no answer")
        .to_string();
    assert!(
        late.contains("within 0.1 s") && !late.contains("token"),
        "{late}"
    );
}

#[tokio::test]
async fn who_is_only_told_something_has_been_told_however_much_they_say() {
    let talker = raw_server(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 500 No\r\n\r\n")
            .await;
    })
    .await;
    let endless = raw_server(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
            .await;
        while stream.write_all(&[b'.'; 4096]).await.is_ok() {}
    })
    .await;
    let broken = raw_server(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12")
            .await;
    })
    .await;
    let upstream = Upstream::new(&config::Upstream::default()).expect("a client");
    for (address, status) in [(talker, 204), (endless, 200), (broken, 200)] {
        let uri = format!("http://{address}/");
        let told = upstream.tell(post(&uri, ""), 8192, 10 * SECOND).await;
        assert_eq!(told.expect("a head").status, status);
    }
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_is_given_up_on() {
    let silent = raw_server(|stream, _| async move {
        tokio::time::sleep(60 * SECOND).await;
        drop(stream);
    })
    .await;
    let settings = config::Upstream {
        ca_file: None,
        addresses: [("*".to_owned(), silent)].into(),
    };
    let dialer = Dialer::new(&settings.addresses, SECOND / 10);
    let roots = system_roots_and(None).expect("system roots");
    let mut connector = Connector::new(dialer, tls::client(roots).expect("a config"), SECOND / 10);
    let target = "https://example.com/".parse().expect("a URI");
    let error = tower_service::Service::call(&mut connector, target)
        .await
        .expect_err("no handshake");
    assert!(error::explain(&*error).contains("time limit"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_refused() {
    let garbage = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(garbage.path(), "not a certificate").expect("written");
    let error = Upstream::trusting_only(garbage.path(), &config::Upstream::default())
        .expect_err("no certificate");
    assert!(
        error.to_string().contains("holds no certificate"),
        "{error}"
    );
}
