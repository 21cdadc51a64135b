//! What a connection begins with, which tells what it is.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    postgres::is_postgres,
    tls::{Hello, HelloReader},
};

/// A ClientHello may be larger than one record (RFC 8446, section 4), but not without end.
const HELLO_LIMIT: usize = 64 << 10;

/// What a connection begins with.
pub(super) enum Opening {
    /// A ClientHello, with its server name.
    Tls(Option<String>),
    /// An HTTP request in the clear.
    PlainHttp,
    /// A message to a PostgreSQL server.
    Postgres,
    /// None of these; a TLS alert to answer with, where there is one.
    Other(Vec<u8>),
}

/// TLS alert `unrecognized_name` (RFC 6066, section 3), fatal.
pub(super) const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

pub(super) async fn tell_tls(stream: &mut TcpStream, alert: &[u8]) {
    // The connection is closed next; whether the client hears why is up to it.
    let _ = stream.write_all(alert).await;
    let _ = stream.shutdown().await;
}

/// Reads as much as tells what a connection is.
pub(super) async fn read_opening(stream: &mut TcpStream) -> io::Result<(Opening, Bytes)> {
    let mut read = BytesMut::with_capacity(4096);
    let mut hello = HelloReader::default();
    while read.len() < HELLO_LIMIT {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if before == 0 && is_http(&read) {
            return Ok((Opening::PlainHttp, read.freeze()));
        }
        if read[0] == 0 {
            match read.first_chunk() {
                None => continue,
                Some(first) if is_postgres(*first) => {
                    return Ok((Opening::Postgres, read.freeze()));
                }
                Some(_) => {}
            }
        }
        match hello.feed(&read[before..]) {
            Hello::Incomplete => {}
            Hello::Complete(name) => return Ok((Opening::Tls(name), read.freeze())),
            Hello::NotTls(alert) => return Ok((Opening::Other(alert), read.freeze())),
        }
    }
    Ok((Opening::Other(Vec::new()), read.freeze()))
}

/// Whether this begins like an HTTP/1 request or the HTTP/2 preface. No TLS record does: its first byte is below 32.
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"PATCH ",
        b"OPTIONS ",
        b"CONNECT ",
        b"TRACE ",
        b"PRI * HTTP/2.0",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}
