//! The head of a request: what has to be true of it, and what of it does not travel.

use holdpoint_core::{recognise, refusal::Refusal};
use http::{HeaderMap, HeaderName, Method, Version, header, request};

/// Removes what concerns this connection only, and credentials an agent brought along: they are replaced, never passed on.
pub fn strip_what_stays_here(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::TRAILER);
    let credentials: Vec<_> = headers
        .keys()
        .filter(|name| recognise::is_credential_header(name.as_str()))
        .cloned()
        .collect();
    for name in credentials {
        headers.remove(name);
    }
}

/// RFC 9110, section 7.6.1, and what older clients send.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Refuses what is not a plain request to the host of this connection.
///
/// # Errors
/// What the client is told.
pub fn check(head: &request::Parts, host: &str) -> Result<(), Refusal> {
    let no = |problem: &str| Err(Refusal::malformed(problem));
    if head.method == Method::CONNECT {
        return no(
            "CONNECT is not possible here: Holdpoint is no proxy that clients address; connect to the host itself",
        );
    }
    let upgrade = head.headers.contains_key(header::UPGRADE)
        || head
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .any(|value| {
                value
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
            });
    if upgrade {
        return no(
            "protocol upgrades (WebSocket, h2c) would leave the protocol that Holdpoint can judge",
        );
    }
    let http2 = head.version == Version::HTTP_2;
    if !http2 && head.uri.authority().is_some() {
        return no("the request line holds an absolute URI; it has to hold a path only");
    }
    let mut authorities: Vec<&str> = Vec::new();
    for value in head.headers.get_all(header::HOST) {
        match value.to_str() {
            Ok(value) => authorities.push(value),
            Err(_) => return no("its Host header is not text"),
        }
    }
    if authorities.len() > 1 {
        return no("it has more than one Host header");
    }
    authorities.extend(head.uri.authority().map(http::uri::Authority::as_str));
    if authorities.is_empty() {
        return no("it names no host");
    }
    for authority in authorities {
        if !is_host(authority, host) {
            return no(&format!(
                "it asks for the host \"{authority}\" on a connection that was opened to {host}; TLS server name, Host and :authority have to agree"
            ));
        }
    }
    Ok(())
}

/// Whether this authority is that host, spelled with the port and the trailing dot that clients add.
fn is_host(authority: &str, host: &str) -> bool {
    let name = authority.strip_suffix(":443").unwrap_or(authority);
    name.strip_suffix('.')
        .unwrap_or(name)
        .eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn head(request: request::Builder) -> request::Parts {
        request.body(()).expect("a request").into_parts().0
    }

    const HOST: &str = "sqladmin.googleapis.com";

    #[test]
    fn host_and_server_name_have_to_agree() {
        for good in [
            HOST,
            "SqlAdmin.googleapis.com:443",
            "sqladmin.googleapis.com.",
        ] {
            let request = Request::get("/x").header("host", good);
            assert!(check(&head(request), HOST).is_ok(), "{good}");
        }
        for bad in [
            "storage.googleapis.com",
            "sqladmin.googleapis.com:8443",
            "",
            "sqladmin.googleapis.com@evil",
        ] {
            let request = Request::get("/x").header("host", bad);
            assert!(check(&head(request), HOST).is_err(), "{bad}");
        }
    }

    #[test]
    fn odd_requests_are_refused() {
        let plain = || Request::get("/x").header("host", HOST);
        let odd = [
            Request::get("/x"),
            plain().header("host", HOST),
            plain().header("upgrade", "websocket"),
            plain().header("connection", "keep-alive, Upgrade"),
            Request::get("https://sqladmin.googleapis.com/x").header("host", HOST),
            Request::builder()
                .method("CONNECT")
                .uri("sqladmin.googleapis.com:443")
                .header("host", HOST),
        ];
        for request in odd {
            let head = head(request);
            assert!(check(&head, HOST).is_err(), "{head:?}");
        }
    }

    #[test]
    fn http2_authority_is_checked_too() {
        let request = |uri: &str| head(Request::get(uri).version(Version::HTTP_2));
        assert!(check(&request("https://sqladmin.googleapis.com:443/x"), HOST).is_ok());
        assert!(check(&request("https://storage.googleapis.com/x"), HOST).is_err());
        let both = Request::get("https://sqladmin.googleapis.com/x")
            .version(Version::HTTP_2)
            .header("host", "storage.googleapis.com");
        assert!(check(&head(both), HOST).is_err());
    }

    #[test]
    fn headers_that_connection_names_do_not_travel() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("x-secret, close"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
