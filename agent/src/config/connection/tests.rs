use proptest::prelude::*;

use super::*;

const REST: &str = "user = 'holdpoint'\n";

fn connection(toml: &str) -> anyhow::Result<Connection> {
    let connection: Connection = toml::from_str(&format!("{toml}\n{REST}"))?;
    connection.check()?;
    Ok(connection)
}

fn config(connections: &str) -> anyhow::Result<Config> {
    let config: Config = toml::from_str(&format!(
        "[[issuer]]\nurl = 'https://i'\naudience = 'a'\n[google]\ncredential = {{ from = 'metadata' }}\n{connections}"
    ))?;
    config.check_connections().map(|()| config)
}

fn entry(name: &str, address: &str) -> String {
    format!(
        "[[connection]]\nname = '{name}'\naddresses = ['{address}']\ndial = 'db.internal:5432'\nuser = 'u'\n"
    )
}

#[test]
fn addresses_are_hosts_ranges_and_names_with_a_port() {
    let toml = "name = 'a'\naddresses = ['DB.internal.:5432', '10.1.2.3:5432', '10.2.0.0/24:6432', '[fd00::1]:5432', '[fd00:1::/64]:5432']";
    let read = connection(toml).expect("valid");
    assert_eq!(read.addresses[0].hosts, Hosts::Named("db.internal".into()));
    assert_eq!(read.place().expect("one").to_string(), "db.internal:5432");
    let Hosts::Range(range) = read.addresses[2].hosts else {
        panic!("a range")
    };
    let contains = |ip: &str| range.contains(ip.parse().expect("an address"));
    assert!(contains("10.2.0.0") && contains("10.2.0.255") && contains("::ffff:10.2.0.7"));
    assert!(!contains("10.2.1.0") && !contains("10.1.255.255") && !contains("fd00::1"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (addresses, part) in [
        ("'10.1.2.3'", "HOST:PORT"),
        ("'10.1.2.3:0'", "HOST:PORT"),
        ("'fd00::1:5432'", "HOST:PORT"),
        ("'10.1.2.3/24:5432'", "bits set after the first 24"),
        ("'10.1.2.0/33:5432'", "up to 32"),
        ("'[::ffff:10.0.0.1]:5432'", "write it as IPv4"),
        ("'127.0.0.1:5432'", "a session's own"),
        ("'0.0.0.0/0:5432'", "overlap"),
        ("'198.18.0.0/16:5432'", "what names stand for"),
        ("'169.254.169.254:5432'", "metadata"),
        ("'[::]/0:5432'", "HOST:PORT"),
        ("'[::/0]:5432'", "a session's own"),
        ("'localhost:5432'", "answers for that name itself"),
        (
            "'sqladmin.googleapis.com:443'",
            "answers for that name itself",
        ),
        ("'holdpoint.internal:5432'", "answers for that name itself"),
        ("'a b:5432'", "neither an address"),
        ("'10.2.0.0/24:5432'", "needs `dial`"),
        ("", "needs `addresses`"),
    ] {
        let toml = format!("name = 'a'\naddresses = [{addresses}]");
        let problem = format!("{:#}", connection(&toml).expect_err(addresses));
        assert!(problem.contains(part), "{addresses}: {problem}");
    }
    for (more, part) in [
        ("password = 'x'", "unknown field"),
        ("iam = true\npassword_file = '/p'", "one of them"),
        ("iam = true\ntls = 'unverified'", "access token"),
        ("iam = true\ntls = 'off'", "access token"),
        ("certificate_file = '/c'", "belong together"),
        ("tls = 'off'\nca_file = '/c'", "no certificates"),
        ("tls = 'require'", "unknown variant"),
        ("root_files = ['ca.pem']", "absolute"),
        ("instance = 'a:b'", "PROJECT:REGION:INSTANCE"),
    ] {
        let toml = format!("name = 'a'\naddresses = ['db:5432']\n{more}");
        let problem = format!("{:#}", connection(&toml).expect_err(more));
        assert!(problem.contains(part), "{more}: {problem}");
    }
}

#[test]
fn no_two_have_an_address_and_port_in_common() {
    let both = |one: &str, other: &str| config(&(entry("a", one) + &entry("b", other)));
    for (one, other) in [
        ("10.1.2.3:5432", "10.1.2.3:5432"),
        ("10.1.0.0/16:5432", "10.1.2.3:5432"),
        ("10.1.2.0/24:5432", "10.0.0.0/8:5432"),
        ("[fd12::/16]:5432", "[fd12::1]:5432"),
        ("db.internal:5432", "DB.internal.:5432"),
    ] {
        let problem = both(one, other).expect_err(one).to_string();
        assert!(problem.contains("in common"), "{problem}");
        both(other, one).expect_err(other);
    }
    both("10.1.2.3:5432", "10.1.2.3:5433").expect("another port");
    both("10.1.2.0/24:5432", "10.1.3.0/24:5432").expect("side by side");
    both("a.internal:5432", "b.internal:5432").expect("other names");
    let same_name = config(&(entry("a", "a:1") + &entry("a", "b:1")));
    assert!(same_name.expect_err("twice").to_string().contains("two"));
}

#[test]
fn instances_of_domains_projects() {
    let instance = Instance::try_from("example.com:p:europe-west1:db".to_owned()).expect("one");
    assert_eq!(instance.project, "example.com:p");
    assert_eq!(instance.id, "db");
    assert_eq!(instance.to_string(), "example.com:p:europe-west1:db");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}|[0-9a-f:./\\[\\]]{0,40}") {
        let _ = Address::try_from(text.clone());
        let _ = Place::try_from(text.clone());
        let _ = Instance::try_from(text);
    }

    #[test]
    fn ranges_overlap_exactly_where_they_share_an_address(
        one in any::<u32>(), other in any::<u32>(), bits in 0_u8..=32, more in 0_u8..=32,
    ) {
        let range = |ip: u32, bits: u8| Range {
            first: Ipv4Addr::from(ip.checked_shr((32 - bits).into()).unwrap_or(0).checked_shl((32 - bits).into()).unwrap_or(0)).into(),
            bits,
        };
        let (a, b) = (range(one, bits), range(other, more));
        let least = bits.min(more);
        let share = least == 0 || one >> (32 - least) == other >> (32 - least);
        prop_assert_eq!(a.overlaps(b), share);
        prop_assert!(a.contains(Ipv4Addr::from(one).into()));
    }
}
