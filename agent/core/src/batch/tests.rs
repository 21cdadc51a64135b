use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::recognise::{Recognised, route};

fn complete(body: &[u8]) -> Result<Batch, Malformed> {
    complete_with(body, &[])
}

fn complete_with(body: &[u8], more: &[(&'static str, &'static str)]) -> Result<Batch, Malformed> {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("multipart/mixed; boundary=\"b\""),
    );
    for (name, value) in more {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let head = Head {
        method: "POST",
        authority: "compute.googleapis.com:443",
        path: "/batch/compute/v1",
        query: "",
        headers: &headers,
    };
    match route(Catalog::built_in(), head)?.complete(Payload::Whole(body))? {
        Recognised::Batch(batch) => Ok(batch),
        Recognised::One(operation) => panic!("it is {operation:?}"),
    }
}

/// A batch of one part.
fn of(request: &str) -> Vec<u8> {
    format!("--b\nContent-Type: application/http\nContent-ID: <1>\n\n{request}\n--b--\n")
        .into_bytes()
}

const PATH: &str = "/compute/v1/projects/p/zones/z/instances/vm";

#[test]
fn parts_are_operations_of_their_own() {
    let body = format!(
        "--b\r\nContent-Type: application/http\r\nContent-ID: <a+1>\r\n\r\nDELETE {PATH}1 HTTP/1.1\r\nHost: compute.googleapis.com\r\n\
         Authorization: Bearer stolen\r\ncookie: c\r\n\r\n\r\n--b\r\nContent-Type: application/http\r\n\r\n\
         POST https://compute.googleapis.com{PATH}2/setMetadata?alt=json HTTP/1.1\r\ncontent-type: application/json\r\n\
         content-length: 14\r\n\r\n{{\"items\":null}}\r\n\r\n--b--"
    );
    let batch = complete(body.as_bytes()).expect("it is well formed");
    let ids: Vec<_> = batch
        .operations
        .iter()
        .map(|operation| operation.action.id())
        .collect();
    assert_eq!(
        ids,
        ["compute.instances.delete", "compute.instances.setMetadata"]
    );
    assert_eq!(
        batch.operations[0].resource.name,
        "//compute.googleapis.com/projects/p/zones/z/instances/vm1"
    );
    let text = String::from_utf8(batch.body).expect("it is text");
    assert!(
        !text.contains("stolen") && !text.contains("cookie"),
        "{text}"
    );
    assert!(
        text.contains("Content-ID: <a+1>") && text.contains("{\"items\":null}"),
        "{text}"
    );
}

#[test]
fn one_way_of_ending_lines_is_as_good_as_the_other() {
    let request = format!("DELETE {PATH} HTTP/1.1\n\n");
    let lf = complete(&of(&request)).expect("it is well formed");
    let crlf = String::from_utf8(of(&request))
        .expect("it is text")
        .replace('\n', "\r\n");
    let crlf = complete(crlf.as_bytes()).expect("it is well formed");
    assert_eq!(lf.body, crlf.body);
    assert_eq!(lf.operations[0].digest, crlf.operations[0].digest);
}

#[test]
fn what_is_around_counts_for_each_part() {
    let delete = of(&format!("DELETE {PATH} HTTP/1.1\n\n"));
    let plain = complete(&delete).expect("it is well formed");
    let guarded = complete_with(&delete, &[("if-match", "etag")]).expect("it is well formed");
    assert_ne!(plain.operations[0].digest, guarded.operations[0].digest);
    for more in [
        ("x-http-method-override", "DELETE"),
        ("content-encoding", "gzip"),
    ] {
        assert!(complete_with(&delete, &[more]).is_err(), "{more:?}");
    }
}

#[test]
fn parts_that_are_not_known_are_google_unknown() {
    let batch = complete(&of("GET /nothing/known HTTP/1.1\n\n")).expect("it is well formed");
    assert_eq!(batch.operations[0].action.id(), "google.unknown");
}

#[test]
fn doubtful_batches_are_refused() {
    let requests = [
        format!("DELETE {PATH} HTTP/1.1\nHost: storage.googleapis.com\n\n"),
        format!("DELETE https://evil.example{PATH} HTTP/1.1\n\n"),
        format!("DELETE https://compute.googleapis.com:8443{PATH} HTTP/1.1\n\n"),
        format!("DELETE https://compute.googleapis.com@evil.example{PATH} HTTP/1.1\n\n"),
        format!(
            "DELETE https://compute.googleapis.com{PATH} HTTP/1.1\nHost: us-east1-compute.googleapis.com\n\n"
        ),
        format!(
            "DELETE {PATH} HTTP/1.1\nHost: compute.googleapis.com\nHost: compute.googleapis.com\n\n"
        ),
        format!("DELETE {PATH} HTTP/1.1\nTransfer-Encoding: chunked\n\n0\r\n\r\n"),
        format!("DELETE {PATH} HTTP/1.1\nx-a: b\n folded: c\n\n"),
        format!("DELETE {PATH} HTTP/1.1\nx-a : b\n\n"),
        format!("DELETE {PATH} HTTP/1.1\nx-a: b\rc: d\n\n"),
        format!("DELETE {PATH} HTTP/1.1\ncontent-length: 3\n\n{{}}"),
        format!("DELETE {PATH} HTTP/1.1\ncontent-length: 2\n\n{{}}GET / HTTP/1.1\n\n"),
        format!("DELETE {PATH} HTTP/1.1\ncontent-length: +2\n\n{{}}"),
        format!("DELETE {PATH}\n\n"),
        format!("GET {PATH} HTTP/1.1\nX-HTTP-Method-Override: DELETE\n\n"),
        format!("DELETE {PATH}/../vm HTTP/1.1\n\n"),
        format!("DELETE {PATH}?access_token=x HTTP/1.1\n\n"),
        "POST /batch/compute/v1 HTTP/1.1\ncontent-type: multipart/mixed; boundary=c\n\n--c--"
            .into(),
        format!("DELETE {PATH} HTTP/1.1\n\nx--b\n"),
    ];
    for request in requests {
        assert!(complete(&of(&request)).is_err(), "{request}");
    }
    let part = format!("--b\nContent-Type: application/http\n\nDELETE {PATH} HTTP/1.1\n\n\n");
    let bodies = [
        String::new(),
        "--b--".into(),
        format!("preamble\n{part}--b--"),
        format!("{part}--b--\nepilogue"),
        part.clone(),
        part.replace("application/http", "text/plain") + "--b--",
        part.replace("Content-Type: application/http\n", "") + "--b--",
        part.replace(
            "application/http\n",
            "application/http\nContent-Transfer-Encoding: base64\n",
        ) + "--b--",
        part.repeat(MAX_PARTS + 1) + "--b--",
    ];
    for body in bodies {
        assert!(
            complete(body.as_bytes()).is_err(),
            "{}",
            &body[..body.len().min(200)]
        );
    }
    let full = part.repeat(MAX_PARTS) + "--b--";
    assert_eq!(
        complete(full.as_bytes())
            .expect("1000 are allowed")
            .operations
            .len(),
        MAX_PARTS
    );
}

proptest! {
    #[test]
    fn what_is_made_anew_is_read_the_same(
        parts in proptest::collection::vec(
            ("(GET|POST)", "/[a-z0-9/?=]{0,20}", "[ -~&&[^-]]{0,30}", proptest::option::of("<[a-z0-9+]{1,10}>")),
            1..5,
        ),
        crlf: bool,
    ) {
        let mut text = String::new();
        for (method, target, body, id) in parts {
            let id = id.map(|id| format!("Content-ID: {id}\n")).unwrap_or_default();
            text += &format!("--b\nContent-Type: application/http\n{id}\n{method} {target} HTTP/1.1\nx-a: 1\nx-b: 2\nx-a: 3\n\n{body}\n");
        }
        text += "--b--\n";
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let read = parse(text.as_bytes(), "b");
        prop_assert!(read.is_ok(), "{:?}", read);
        let read = read.unwrap_or_default();
        let made = serialise(&read, "b");
        prop_assert_eq!(parse(&made, "b"), Ok(read.clone()));
        prop_assert_eq!(serialise(&read, "b"), made);
    }

    #[test]
    fn any_bytes_are_taken_apart_or_refused(
        body in "(--b(--)?|\r?\n|Content-Type: application/http|DELETE /x HTTP/1.1|content-length: [0-9]|[ -~]|\r){0,30}",
    ) {
        if let Ok(parts) = parse(body.as_bytes(), "b") {
            prop_assert_eq!(parse(&serialise(&parts, "b"), "b"), Ok(parts));
        }
    }
}
