//! From the bytes of a query to those of its answer. No IO.

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SOA, opt::EdnsOption},
    },
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::{
    Names,
    book::{AddressBook, is_localhost},
};
use crate::{binding, config::UnknownNames, metadata, metrics::Lookup};

/// In seconds. Short, since a session's addresses mean nothing after it.
const TTL: u32 = 60;
/// In seconds, for names that do not exist and records that are not there: policies may be reloaded.
const NEGATIVE_TTL: u32 = 5;
/// What fits without fragments everywhere (DNS flag day 2020). No answer of ours comes near.
const MAX_PAYLOAD: u16 = 1232;
/// Extended DNS Errors (RFC 8914): the option's code, and "Prohibited".
const EXTENDED_ERROR: u16 = 15;
const PROHIBITED: u16 = 18;

/// The answer to a query, and what there is to say of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) lookup: Lookup,
    /// The name asked for.
    pub(super) name: Option<String>,
}

/// The answer to a query, or `None` if the bytes are none: what cannot be told apart from an answer gets none.
pub(super) fn answer(book: &AddressBook, names: &impl Names, packet: &[u8]) -> Option<Answer> {
    let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
    let request = header.metadata;
    if request.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata = Metadata::response_from_request(&request);
    answer.metadata.recursion_available = true;
    let (code, lookup) = if request.op_code != OpCode::Query {
        (ResponseCode::NotImp, Lookup::Odd)
    } else if let Some(query) = parse(&header, packet) {
        reply_to(&query, book, names, &mut answer)
    } else {
        (ResponseCode::FormErr, Lookup::Odd)
    };
    answer.metadata.response_code = code;
    let name = answer.queries.first().map(|query| query.name().to_ascii());
    Some(Answer {
        bytes: answer.to_vec().ok()?,
        lookup,
        name,
    })
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
    names: &impl Names,
    answer: &mut Message,
) -> (ResponseCode, Lookup) {
    let Some(query) = message.queries.first() else {
        return (ResponseCode::FormErr, Lookup::Odd);
    };
    answer.add_query(query.clone());
    if let Some(edns) = &message.edns {
        answer.edns = Some(our_edns());
        if edns.version() > 0 {
            return (ResponseCode::BADVERS, Lookup::Odd);
        }
    }
    let resolved = resolve(query, book, names);
    let (code, why) = match &resolved {
        Resolved::Record(data) => {
            let record = Record::from_rdata(query.name().clone(), TTL, data.clone());
            answer.answers.push(record);
            (ResponseCode::NoError, None)
        }
        Resolved::Empty => (ResponseCode::NoError, None),
        Resolved::Not(lookup, code) => (*code, explanation(*lookup)),
    };
    if matches!(resolved, Resolved::Empty) || code == ResponseCode::NXDomain {
        answer.authorities.push(for_a_moment());
    }
    if let (Some(why), Some(edns)) = (why, &mut answer.edns) {
        let text = [&PROHIBITED.to_be_bytes(), why.as_bytes()].concat();
        edns.options_mut()
            .insert(EdnsOption::Unknown(EXTENDED_ERROR, text));
    }
    (code, resolved.lookup())
}

/// How long a client may remember that there is nothing (RFC 2308): without it, each decides for itself.
fn for_a_moment() -> Record {
    let ours = Name::from_labels([&b"holdpoint"[..], b"invalid"]).unwrap_or_default();
    let ttl = NEGATIVE_TTL.cast_signed();
    let authority = SOA::new(ours.clone(), ours, 1, ttl, ttl, ttl, NEGATIVE_TTL);
    Record::from_rdata(Name::root(), NEGATIVE_TTL, RData::SOA(authority))
}

/// What a person should know.
const fn explanation(lookup: Lookup) -> Option<&'static str> {
    match lookup {
        Lookup::Unknown => Some("Holdpoint: no policy of this session knows the name"),
        Lookup::Full => Some("Holdpoint: this session has resolved too many names"),
        Lookup::Found | Lookup::Empty | Lookup::Odd => None,
    }
}

enum Resolved {
    Record(RData),
    Empty,
    Not(Lookup, ResponseCode),
}

impl Resolved {
    const fn lookup(&self) -> Lookup {
        match self {
            Self::Record(_) => Lookup::Found,
            Self::Empty => Lookup::Empty,
            Self::Not(lookup, _) => *lookup,
        }
    }
}

fn our_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_PAYLOAD).set_version(0);
    edns
}

fn resolve(query: &Query, book: &AddressBook, names: &impl Names) -> Resolved {
    match (query.query_class(), query.query_type()) {
        (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => {
            return Resolved::Not(Lookup::Odd, ResponseCode::Refused);
        }
        (DNSClass::IN, RecordType::ANY) => {
            return Resolved::Not(Lookup::Odd, ResponseCode::NotImp);
        }
        (DNSClass::IN, _) => {}
        _ => return Resolved::Not(Lookup::Odd, ResponseCode::Refused),
    }
    if let Some(name) = name_of_pointer(query.name(), book) {
        return match query.query_type() {
            RecordType::PTR => Resolved::Record(RData::PTR(PTR(name))),
            _ => Resolved::Empty,
        };
    }
    let Some(name) = host_name(query.name()).filter(|name| is_local(name) || names.knows(name))
    else {
        // NXDOMAIN unless told otherwise: on REFUSED resolvers ask again, elsewhere, and report a temporary failure that clients
        // retry for minutes. NXDOMAIN is final at once ("Name or service not known", ENOTFOUND), search domains included.
        let code = match names.unknown() {
            UnknownNames::Nxdomain => ResponseCode::NXDomain,
            UnknownNames::Refused => ResponseCode::Refused,
        };
        return Resolved::Not(Lookup::Unknown, code);
    };
    match query.query_type() {
        RecordType::A => match book.address_of(&name) {
            Some(address) => Resolved::Record(RData::A(A(address))),
            None => Resolved::Not(Lookup::Full, ResponseCode::ServFail),
        },
        RecordType::AAAA if is_localhost(&name) => {
            Resolved::Record(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)))
        }
        // IPv4 alone leads to the proxy: with addresses of both kinds every client would try the made-up IPv6 one first, on hosts
        // without IPv6 too. With HTTPS and SVCB records clients would learn keys for Encrypted Client Hello, and the proxy would no
        // longer see whom they talk to.
        _ => Resolved::Empty,
    }
}

/// The name of an address that this session was given, asked for backwards (RFC 1035, section 3.5).
fn name_of_pointer(name: &Name, book: &AddressBook) -> Option<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    let net = absolute.parse_arpa_name().ok()?;
    if net.prefix_len() != net.max_prefix_len() {
        return None;
    }
    let name = match net.addr() {
        ip if ip.is_loopback() => "localhost".to_owned(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => book.name_of(ip)?,
    };
    Name::from_ascii(format!("{name}.")).ok()
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
        let answer = Message::from_vec(&answer.bytes).expect("a message");
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
    fn what_is_not_there_may_be_remembered_for_a_moment() {
        for (name, kind) in [
            ("example.com.", RecordType::A),
            (KNOWN, RecordType::AAAA),
            (KNOWN, RecordType::HTTPS),
        ] {
            let answer = ask(&question(name, kind));
            let authority = answer.authorities.first().expect("an SOA record");
            assert!(authority.ttl <= 5 && authority.name.is_root());
            assert!(matches!(&authority.data, RData::SOA(soa) if soa.minimum <= 5));
        }
        assert!(ask(&question(KNOWN, RecordType::A)).authorities.is_empty());
    }

    #[test]
    fn unknown_names_are_refused_where_that_is_wanted() {
        struct Refusing;
        impl Names for Refusing {
            fn knows(&self, _: &str) -> bool {
                false
            }
            fn unknown(&self) -> UnknownNames {
                UnknownNames::Refused
            }
        }
        let packet = question("example.com.", RecordType::A)
            .to_vec()
            .expect("a message");
        let answer = answer(&AddressBook::default(), &Refusing, &packet).expect("an answer");
        assert_eq!(
            (answer.lookup, answer.name.as_deref()),
            (Lookup::Unknown, Some("example.com."))
        );
        let answer = Message::from_vec(&answer.bytes).expect("a message");
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        assert!(answer.authorities.is_empty(), "not to be remembered");
    }

    #[test]
    fn addresses_of_the_session_have_names() {
        let book = AddressBook::default();
        book.address_of(KNOWN).expect("room");
        let ptr = |name: &str, kind| {
            let packet = question(name, kind).to_vec().expect("a message");
            let answer = answer(&book, &|_: &str| false, &packet).expect("an answer");
            let answer = Message::from_vec(&answer.bytes).expect("a message");
            let data = answer.answers.first().map(|record| record.data.to_string());
            (answer.metadata.response_code, data)
        };
        for (name, expected) in [
            ("1.0.18.198.in-addr.arpa.", KNOWN),
            ("254.169.254.169.in-addr.arpa.", "metadata.google.internal"),
            ("1.0.0.127.in-addr.arpa.", "localhost"),
        ] {
            let answer = ptr(name, RecordType::PTR);
            assert_eq!(
                answer,
                (ResponseCode::NoError, Some(format!("{expected}.")))
            );
            assert_eq!(ptr(name, RecordType::A), (ResponseCode::NoError, None));
        }
        for name in [
            "2.0.18.198.in-addr.arpa.",
            "18.198.in-addr.arpa.",
            "8.8.8.8.in-addr.arpa.",
        ] {
            assert_eq!(
                ptr(name, RecordType::PTR),
                (ResponseCode::NXDomain, None),
                "{name}"
            );
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
        assert_eq!(answer.lookup, Lookup::Full);
        let answer = Message::from_vec(&answer.bytes).expect("a message");
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }

    proptest! {
        #[test]
        fn answers_fit_and_give_nothing_away(
            labels in "([a-zA-Z0-9_-]{1,63}\\.){1,4}", kind: u16, class: u16, known: bool, edns: bool,
        ) {
            let Ok(name) = Name::from_ascii(&labels) else { return Ok(()) };
            let mut query = Query::query(name, RecordType::from(kind));
            query.set_query_class(DNSClass::from(class));
            let mut message = Message::query();
            message.add_query(query);
            message.edns = edns.then(Edns::new);
            let Ok(packet) = message.to_vec() else { return Ok(()) };
            let answer = answer(&AddressBook::default(), &move |_: &str| known, &packet);
            let answer = answer.expect("a query that is whole gets an answer");
            prop_assert!(answer.bytes.len() <= 512);
            let answer = Message::from_vec(&answer.bytes).expect("a message");
            // One address of our own making, or nothing, whatever the type.
            for record in &answer.answers {
                prop_assert!(known || is_local(&labels.to_ascii_lowercase()));
                prop_assert!(matches!(record.data, RData::A(_)), "{record}");
            }
        }

        #[test]
        fn garbage_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            let answer = answer(&AddressBook::default(), &|_: &str| true, &packet);
            prop_assert!(answer.is_none_or(|answer| answer.bytes.len() <= 512));
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
                let answer = answer(&AddressBook::default(), &move |_: &str| accept, &packet);
                // All of them fit into what clients without EDNS take.
                prop_assert!(answer.is_none_or(|answer| answer.bytes.len() <= 512));
            }
        }
    }
}
