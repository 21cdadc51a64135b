//! From the bytes of a query to those of its answer. No IO.

use std::net::Ipv6Addr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, opt::EdnsOption},
    },
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::book::{AddressBook, is_localhost};
use crate::{binding, metadata};

/// In seconds. Short, since a session's addresses mean nothing after it.
const TTL: u32 = 60;
/// What fits without fragments everywhere (DNS flag day 2020). No answer of ours comes near.
const MAX_PAYLOAD: u16 = 1232;
/// Extended DNS Errors (RFC 8914): the option's code, and "Prohibited".
const EXTENDED_ERROR: u16 = 15;
const PROHIBITED: u16 = 18;

/// The answer to a query, or `None` if the bytes are none: what cannot be told apart from an answer gets none.
pub(super) fn answer(
    book: &AddressBook,
    known: &impl Fn(&str) -> bool,
    packet: &[u8],
) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
    let request = header.metadata;
    if request.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata = Metadata::response_from_request(&request);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = if request.op_code != OpCode::Query {
        ResponseCode::NotImp
    } else if let Some(query) = parse(&header, packet) {
        reply_to(&query, book, known, &mut answer)
    } else {
        ResponseCode::FormErr
    };
    answer.to_vec().ok()
}

/// A message with one question and nothing else but EDNS. The counts are looked at first: hickory makes room for as many
/// questions as a header claims.
fn parse(header: &Header, packet: &[u8]) -> Option<Message> {
    let counts = &header.counts;
    let plain = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0;
    if !plain || counts.additionals > 2 {
        return None;
    }
    let message = Message::from_vec(packet).ok()?;
    (message.queries.len() == 1).then_some(message)
}

fn reply_to(
    message: &Message,
    book: &AddressBook,
    known: &impl Fn(&str) -> bool,
    answer: &mut Message,
) -> ResponseCode {
    let Some(query) = message.queries.first() else {
        return ResponseCode::FormErr;
    };
    answer.add_query(query.clone());
    if let Some(edns) = &message.edns {
        answer.edns = Some(our_edns());
        if edns.version() > 0 {
            return ResponseCode::BADVERS;
        }
    }
    let (code, why) = resolve(query, book, known, &mut answer.answers);
    if let (Some(why), Some(edns)) = (why, &mut answer.edns) {
        let text = [&PROHIBITED.to_be_bytes(), why.as_bytes()].concat();
        edns.options_mut()
            .insert(EdnsOption::Unknown(EXTENDED_ERROR, text));
    }
    code
}

fn our_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_PAYLOAD).set_version(0);
    edns
}

/// Fills in `answers` and says how it went, and why if a person should know.
fn resolve(
    query: &Query,
    book: &AddressBook,
    known: &impl Fn(&str) -> bool,
    answers: &mut Vec<Record>,
) -> (ResponseCode, Option<&'static str>) {
    match (query.query_class(), query.query_type()) {
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => {
            return (ResponseCode::Refused, None);
        }
        (DNSClass::IN, RecordType::ANY) => return (ResponseCode::NotImp, None),
        (DNSClass::IN, _) => {}
        _ => return (ResponseCode::Refused, None),
    }
    // NXDOMAIN and not REFUSED: on REFUSED resolvers ask again, elsewhere, and report a temporary failure that clients
    // retry for minutes. NXDOMAIN is final at once ("Name or service not known", ENOTFOUND), search domains included.
    let Some(name) = host_name(query.name()).filter(|name| is_local(name) || known(name)) else {
        let why = "Holdpoint: no policy of this session knows the name";
        return (ResponseCode::NXDomain, Some(why));
    };
    let data = match query.query_type() {
        RecordType::A => match book.address_of(&name) {
            Some(address) => Some(RData::A(A(address))),
            None => {
                let why = "Holdpoint: this session has resolved too many names";
                return (ResponseCode::ServFail, Some(why));
            }
        },
        RecordType::AAAA if is_localhost(&name) => Some(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
        // IPv4 alone leads to the proxy. With HTTPS and SVCB records clients would learn keys for Encrypted Client Hello,
        // and the proxy would no longer see whom they talk to.
        _ => None,
    };
    answers.extend(data.map(|data| Record::from_rdata(query.name().clone(), TTL, data)));
    (ResponseCode::NoError, None)
}

fn is_local(name: &str) -> bool {
    is_localhost(name) || metadata::NAMES.contains(&name) || name == binding::NAME
}

/// The name in lower case and without the dot at its end, if hosts can have such a name.
fn host_name(name: &Name) -> Option<String> {
    let labels = name.iter().map(|label| {
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = std::str::from_utf8(label).ok()?;
        label
            .bytes()
            .all(|byte| valid(&byte))
            .then(|| label.to_ascii_lowercase())
    });
    let labels: Vec<_> = labels.collect::<Option<_>>()?;
    (!labels.is_empty()).then(|| labels.join("."))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const KNOWN: &str = "storage.googleapis.com";

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn ask(message: &Message) -> Message {
        let book = AddressBook::default();
        let packet = message.to_vec().expect("a message");
        let answer = answer(&book, &|name: &str| name == KNOWN, &packet).expect("an answer");
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(answer.metadata.id, message.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        answer
    }

    fn outcome(name: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
        let answer = ask(&question(name, kind));
        let data = answer.answers.into_iter().map(|record| record.data);
        (answer.metadata.response_code, data.collect())
    }

    #[test]
    fn known_names_have_one_ipv4_address() {
        let address = RData::A(A(Ipv4Addr::new(198, 18, 0, 1)));
        for name in [
            "storage.googleapis.com.",
            "Storage.GOOGLEAPIS.com.",
            "storage.googleapis.com",
        ] {
            assert_eq!(
                outcome(name, RecordType::A),
                (ResponseCode::NoError, vec![address.clone()])
            );
        }
        let answer = ask(&question("sTorage.googleapis.com.", RecordType::A));
        assert_eq!(answer.answers[0].ttl, 60);
        assert!(
            answer.answers[0].name.eq_case(&answer.queries[0].name),
            "spelt as asked"
        );
        assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
        for kind in [
            RecordType::AAAA,
            RecordType::HTTPS,
            RecordType::SVCB,
            RecordType::TXT,
            RecordType::MX,
        ] {
            assert_eq!(
                outcome(KNOWN, kind),
                (ResponseCode::NoError, vec![]),
                "{kind}"
            );
        }
    }

    #[test]
    fn unknown_names_do_not_exist() {
        for name in [
            "example.com.",
            "evil.storage.googleapis.com.",
            "storage.googleapis.com.corp.example.",
            "com.",
            ".",
            "1.0.18.198.in-addr.arpa.",
            "notlocalhost.",
        ] {
            for kind in [
                RecordType::A,
                RecordType::AAAA,
                RecordType::TXT,
                RecordType::PTR,
            ] {
                assert_eq!(
                    outcome(name, kind),
                    (ResponseCode::NXDomain, vec![]),
                    "{name} {kind}"
                );
            }
        }
    }

    #[test]
    fn what_hosts_cannot_be_called_is_no_name() {
        for label in [&b"a b"[..], b"\xff", b"a\0", b"a.b", b"caf\xc3\xa9", b"*"] {
            let name = Name::from_labels([label, b"example"]).expect("a name");
            assert_eq!(host_name(&name), None, "{name}");
        }
        let name = Name::from_labels([&b"_A-1"[..], b"Example"]).expect("a name");
        assert_eq!(host_name(&name).as_deref(), Some("_a-1.example"));
    }

    #[test]
    fn local_names_are_known_always() {
        let metadata = vec![RData::A(A(Ipv4Addr::new(169, 254, 169, 254)))];
        for name in ["metadata.google.internal.", "metadata."] {
            assert_eq!(
                outcome(name, RecordType::A),
                (ResponseCode::NoError, metadata.clone())
            );
            assert_eq!(
                outcome(name, RecordType::AAAA),
                (ResponseCode::NoError, vec![])
            );
        }
        for name in ["localhost.", "x.localhost."] {
            let (v4, v6) = (
                outcome(name, RecordType::A),
                outcome(name, RecordType::AAAA),
            );
            assert_eq!(v4.1, [RData::A(A(Ipv4Addr::LOCALHOST))]);
            assert_eq!(v6.1, [RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))]);
        }
    }

    #[test]
    fn odd_questions_are_refused() {
        assert_eq!(outcome(KNOWN, RecordType::AXFR).0, ResponseCode::Refused);
        assert_eq!(outcome(KNOWN, RecordType::IXFR).0, ResponseCode::Refused);
        assert_eq!(outcome(KNOWN, RecordType::ANY).0, ResponseCode::NotImp);
        let mut chaos = question("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(ask(&chaos).metadata.response_code, ResponseCode::Refused);
        for code in [OpCode::Status, OpCode::Notify, OpCode::Update] {
            let mut message = question(KNOWN, RecordType::A);
            message.metadata.op_code = code;
            assert_eq!(ask(&message).metadata.response_code, ResponseCode::NotImp);
        }
        let mut two = question(KNOWN, RecordType::A);
        two.add_query(two.queries[0].clone());
        assert_eq!(ask(&two).metadata.response_code, ResponseCode::FormErr);
        assert_eq!(
            ask(&Message::query()).metadata.response_code,
            ResponseCode::FormErr
        );
    }

    #[test]
    fn answers_and_stubs_get_no_answer() {
        let book = AddressBook::default();
        let mut message = question(KNOWN, RecordType::A);
        message.metadata.message_type = MessageType::Response;
        let packet = message.to_vec().expect("a message");
        assert_eq!(answer(&book, &|_: &str| true, &packet), None);
        assert_eq!(answer(&book, &|_: &str| true, &packet[..11]), None);
        assert_eq!(answer(&book, &|_: &str| true, &[]), None);
    }

    #[test]
    fn edns_is_answered_with_edns_that_says_why() {
        let mut message = question("example.com.", RecordType::A);
        assert!(ask(&message).edns.is_none(), "not unless asked");
        message.set_edns(Edns::new());
        let edns = ask(&message).edns.expect("EDNS");
        assert_eq!(edns.max_payload(), 1232);
        match edns.option(EXTENDED_ERROR.into()) {
            Some(EdnsOption::Unknown(_, data)) => {
                assert_eq!(data[..2], PROHIBITED.to_be_bytes());
                assert!(data[2..].starts_with(b"Holdpoint: "));
            }
            other => panic!("no extended error: {other:?}"),
        }
        let mut newer = our_edns();
        newer.set_version(1);
        message.set_edns(newer);
        // The number is also BADSIG's, which is what it is parsed as.
        let code = ask(&message).metadata.response_code;
        assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
    }

    #[test]
    fn a_full_book_is_a_server_failure() {
        let book = AddressBook::default();
        let mut names = (0..).map(|number| format!("n{number}.example"));
        assert!(names.any(|name| book.address_of(&name).is_none()));
        let packet = question("one-more.example.", RecordType::A)
            .to_vec()
            .expect("a message");
        let answer = answer(&book, &|_: &str| true, &packet).expect("an answer");
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            let answer = answer(&AddressBook::default(), &|_: &str| true, &packet);
            prop_assert!(answer.is_none_or(|answer| answer.len() <= 512));
        }

        #[test]
        fn damaged_queries_never_panic(
            labels in "([a-z0-9-]{1,60}\\.){1,4}", edns: bool,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let Ok(name) = Name::from_ascii(&labels) else { return Ok(()) };
            let mut message = Message::query();
            message.add_query(Query::query(name, RecordType::A));
            message.edns = edns.then(Edns::new);
            let mut packet = message.to_vec().expect("a message");
            for (index, byte) in damage {
                let position = index.index(packet.len());
                packet[position] = byte;
            }
            for accept in [true, false] {
                let answer = answer(&AddressBook::default(), &|_: &str| accept, &packet);
                // All of them fit into what clients without EDNS take.
                prop_assert!(answer.is_none_or(|answer| answer.len() <= 512));
            }
        }
    }
}
