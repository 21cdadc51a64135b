//! Bodies that are no JSON.

use super::*;

const KEY: &str = "AIzaSyA1234567890abcdefghijklmnopqrstuv";

#[test]
fn text_line_by_line() {
    let block = "-----BEGIN PRIVATE KEY-----\n  MIIEvQ\n  AAAA\n  -----END PRIVATE KEY-----";
    let input = format!(
        "a {KEY}\r\nkey: |\n  {block}\nDB_PASSWORD=hunter22\n  password: hunter22\nlast {block}"
    );
    assert_eq!(
        masked(&["secrets"], Form::Text, &input),
        "a [masked:google-api-key]\r\nkey: |\n  [masked:private-key]\nDB_PASSWORD=[masked:assigned-secret]\n  password: [masked:assigned-secret]\nlast [masked:private-key]"
    );
    let set = masks().union(["secrets"]).expect("the set");
    assert_eq!(
        try_masked(&set, &Form::Text, b"\xff\xfea\0"),
        Err(Unreadable::Encoding)
    );
    assert_eq!(
        try_masked(&set, &Form::Text, b"a\0b\0"),
        Err(Unreadable::Encoding)
    );
}

#[test]
fn lines_are_given_out_as_they_end() {
    let set = masks().union(["secrets"]).expect("the set");
    let mut masker = Masker::new(set, Form::Text);
    let mut out = Vec::new();
    masker.push(b"one\ntwo", &mut out).expect("text");
    assert_eq!(out, b"one\n");
}

#[test]
fn lines_and_blocks_longer_than_the_window() {
    let long = "x".repeat(100_000);
    let out = masked(
        &["secrets"],
        Form::Text,
        &format!("{long} {KEY} {long}\n{KEY}"),
    );
    assert_eq!(
        out,
        format!("{long} [masked:google-api-key] {long}\n[masked:google-api-key]")
    );
    let lines = "MIIEvQIBADAN\n".repeat(20_000);
    let block = format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\nafter\n");
    let out = masked(&["secrets"], Form::Text, &format!("before\n{block}"));
    assert_eq!(out, "before\n[masked:private-key]after\n");
    let endless = masked(
        &["secrets"],
        Form::Text,
        &format!("-----BEGIN RSA PRIVATE KEY-----\n{lines}"),
    );
    assert_eq!(endless, "[masked:private-key]");
}

#[test]
fn forms() {
    let input = format!(
        "a=b+c&client_secret=x%20y&q={}&{KEY}&email=j%40x.de&=&",
        KEY.replace('z', "%7A")
    );
    assert_eq!(
        masked(&["secrets", "pii"], Form::UrlEncoded, &input),
        "a=b+c&client_secret=%5Bmasked%3Asecret%2Dfield%5D&q=%5Bmasked%3Agoogle%2Dapi%2Dkey%5D&%5Bmasked%3Agoogle%2Dapi%2Dkey%5D&email=%5Bmasked%3Aemail%5D&=&"
    );
}

#[test]
fn xml() {
    let input = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- {KEY} --><r xmlns:a=\"x\"><a:Password>p&amp;w</a:Password><b c='{KEY}' d=\"1\" />\n<![CDATA[{KEY}]]>&#65;{}<e>&lt;</e></r>\n",
        &KEY[1..]
    );
    assert_eq!(
        masked(&["secrets"], Form::Xml, &input),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- [masked:google-api-key] --><r xmlns:a=\"x\"><a:Password>[masked:secret-field]</a:Password><b c='[masked:google-api-key]' d=\"1\" />\n<![CDATA[[masked:google-api-key]]]>[masked:google-api-key]<e>&lt;</e></r>\n"
    );
    let set = masks().union(["secrets"]).expect("the set");
    for input in [
        "<a>",
        "</a>",
        "<a></b>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>",
        "<a>&x;</a>",
        "<a b></a>",
        "<a b=c/>",
        "<a",
        "<?xml encoding=\"UTF-16\"?><a/>",
    ] {
        assert!(
            try_masked(&set, &Form::Xml, input.as_bytes()).is_err(),
            "{input}"
        );
    }
}

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(content);
    field
}

#[test]
fn lengths_around_a_mask_are_made_right() {
    let message = |secret: &[u8], name: &[u8]| {
        let inner = [field(2, secret), vec![0x18, 0x01], field(4, b"plain")].concat();
        let outer = [field(1, name), field(3, &inner)].concat();
        [
            &[0_u8][..],
            &u32::try_from(outer.len()).expect("short").to_be_bytes(),
            &outer,
        ]
        .concat()
    };
    let set = own("name = \"o\"\nfields = [\"grpc:1\"]")
        .union(["o", "secrets"])
        .expect("the sets");
    let padded = format!("{} {KEY}", "x".repeat(100));
    let input = message(padded.as_bytes(), b"Jane");
    let masked = padded.replace(KEY, "[masked:google-api-key]");
    let expected = message(masked.as_bytes(), b"[masked:o]");
    let out = try_masked_bytes(&set, &Form::Grpc, &[input.clone(), input].concat()).expect("gRPC");
    assert_eq!(out, [expected.clone(), expected].concat());
    for broken in [
        &b"\x01\0\0\0\x01x"[..],
        b"\0\0\0\0\x01\x07",
        b"\0\0\0\0\x02\x0a",
        b"\0\xff\xff\xff\xff",
        b"\0\0\0",
        b"\0\0\0\0\x02\x0a\x05",
    ] {
        assert!(try_masked(&set, &Form::Grpc, broken).is_err(), "{broken:?}");
    }
}

#[test]
fn parts_of_forms_and_batches() {
    let boundary = || Form::Multipart {
        boundary: "b".into(),
    };
    let form = "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nx y\r\n--b\r\nContent-Type: application/json\r\n\r\n{\"password\":\"x\"}\r\n--b\r\n\r\n--b--\r\n";
    assert_eq!(
        masked(&["secrets"], boundary(), form),
        "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n[masked:secret-field]\r\n--b\r\nContent-Type: application/json\r\n\r\n{\"password\":\"[masked:secret-field]\"}\r\n--b\r\n\r\n--b--\r\n"
    );
    let batch = format!(
        "\r\n--b\r\nContent-Type: application/http\r\nContent-ID: <response-1>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: 52\r\nSet-Cookie: x\r\n\r\n{{\"a\":\"{KEY}\"}}\r\n--b\nContent-Type: application/http\n\nHTTP/1.1 204 No Content\n\n\n--b--"
    );
    assert_eq!(
        masked(&["secrets"], boundary(), &batch),
        "\r\n--b\r\nContent-Type: application/http\r\nContent-ID: <response-1>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nSet-Cookie: [masked:secret-field]\r\n\r\n{\"a\":\"[masked:google-api-key]\"}\r\n--b\nContent-Type: application/http\n\nHTTP/1.1 204 No Content\n\n\n--b--"
    );
}

#[test]
fn parts_that_cannot_be_read_do_not_pass() {
    let set = masks().union(["secrets"]).expect("the set");
    let form = Form::Multipart {
        boundary: "b".into(),
    };
    for input in [
        "--b\r\n\r\nx",
        "--b\r\n\r\nx\r\n--bc\r\n--b--",
        "preamble\r\n--b\r\n\r\nx\r\n--b--",
        "--b\r\n\r\nx\r\n--b--\r\nepilogue",
        "--b\r\nContent-Type: application/json\r\n\r\n{\r\n--b--",
        "--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--",
        "--b\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--",
        "--b\r\nA: b\r\n folded\r\n\r\nx\r\n--b--",
        "--b\r\nno header\r\n\r\nx\r\n--b--",
    ] {
        assert!(
            try_masked(&set, &form, input.as_bytes()).is_err(),
            "{input:?}"
        );
    }
    assert_eq!(
        try_masked(&set, &Form::Opaque, b"x"),
        Err(Unreadable::Opaque)
    );
    assert_eq!(try_masked(&set, &Form::Opaque, b"").as_deref(), Ok(""));
}
