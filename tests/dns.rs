//! Names resolve through Holdpoint, and only those that policy knows.

use std::{
    io::Read as _,
    os::fd::{FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use holdpoint_tests::{
    canary::Canary,
    sandbox::Ran,
    world::{Settings, World},
};

/// A policy that is as wide open as can be.
const EVERY_HOST: &str = r#"
@id("every-host")
permit(principal, action in Action::"net", resource);
"#;

fn resolve(world: &World, server: &str, transport: &str, name: &str, kind: &str) -> Ran {
    world
        .sandbox()
        .python("resolve.py", &[server, transport, name, kind])
        .succeeded()
}

#[test]
fn google_names_resolve_whoever_is_asked() {
    let world = World::start();
    let canary = Canary::start().unwrap_or_else(|error| panic!("{error:#}"));
    let elsewhere = canary.address().ip().to_string();
    for server in [elsewhere.as_str(), "8.8.8.8", "169.254.169.254"] {
        for transport in ["udp", "tcp"] {
            let ran = resolve(&world, server, transport, "storage.googleapis.com", "A");
            assert!(ran.stdout.contains("rcode 0"), "{ran}");
            assert!(ran.stdout.contains("address 198.1"), "{ran}");
            if transport == "udp" {
                assert!(ran.stdout.contains(&format!("from {server}")), "{ran}");
            }
        }
    }
    assert_eq!(canary.visits(), 0);
}

#[test]
fn unknown_names_are_refused_and_go_nowhere() {
    let world = World::start();
    let labels = format!("{}.attacker.example", "a".repeat(63));
    for name in [
        "attacker.example",
        &labels,
        "metadata.google.internal.attacker.example",
    ] {
        for kind in ["A", "TXT", "ANY"] {
            let ran = resolve(&world, "8.8.8.8", "udp", name, kind);
            assert!(!ran.stdout.contains("address"), "{name} {kind}: {ran}");
            // Not implemented, name error, refused (RFC 1035, section 4.1.1).
            assert!(
                ["rcode 3", "rcode 4", "rcode 5"]
                    .iter()
                    .any(|it| ran.stdout.contains(it)),
                "{name} {kind}: {ran}"
            );
        }
    }
}

#[test]
fn the_systems_resolver_works() {
    let world = World::start();
    let ran = world
        .sandbox()
        .run(&["getent", "ahosts", "sqladmin.googleapis.com"])
        .succeeded();
    assert!(ran.stdout.contains("198.1"), "{ran}");
    let ran = world
        .sandbox()
        .run(&["getent", "hosts", "metadata.google.internal"])
        .succeeded();
    assert!(ran.stdout.contains("169.254.169.254"), "{ran}");
    let _ = world
        .sandbox()
        .run(&["getent", "hosts", "attacker.example"])
        .failed();
}

#[test]
fn a_session_does_not_know_another_sessions_addresses() {
    let world = World::start();
    let first = world
        .sandbox()
        .run(&["getent", "ahostsv4", "storage.googleapis.com"])
        .succeeded();
    let address = first
        .stdout
        .split_whitespace()
        .next()
        .expect("an address")
        .to_owned();
    // Without the name having been asked for in this session the address stands for nothing.
    let url = format!("https://{address}/storage/v1/b/prod-bucket");
    let ran = world.sandbox().run(&["curl", "-sSk", "-m", "10", &url]);
    assert!(!ran.stdout.contains("storage#bucket"), "{ran}");
    assert!(world.arrivals().is_empty());
}

/// BIND's own client, as it prints headers and answers.
fn dig(world: &World, arguments: &[&str]) -> Ran {
    let options = [
        "dig",
        "+noall",
        "+comments",
        "+answer",
        "+tries=1",
        "+time=5",
    ];
    world
        .sandbox()
        .run(&[&options[..], arguments].concat())
        .succeeded()
}

#[test]
fn whatever_resolver_a_client_names_by_whatever_transport() {
    let world = World::start();
    for server in ["@8.8.8.8", "@2001:4860:4860::8888", "@127.0.0.1", "@::1"] {
        for options in [
            &["+notcp"][..],
            &["+tcp"],
            &["+notcp", "+noedns"],
            &["+notcp", "+bufsize=512"],
        ] {
            let question = [&[server, "storage.googleapis.com", "A"], options].concat();
            let ran = dig(&world, &question);
            assert!(ran.stdout.contains("status: NOERROR"), "{question:?} {ran}");
            assert!(ran.stdout.contains("\tA\t198.18.0.1"), "{question:?} {ran}");
        }
    }
}

#[test]
fn one_socket_may_ask_several_resolvers() {
    let world = World::start();
    let script = "import socket, struct\n\
        it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        it.settimeout(5)\n\
        name = b''.join(bytes([len(x)]) + x for x in b'storage.googleapis.com'.split(b'.')) + bytes(1)\n\
        for id, server in enumerate(['192.0.2.1', '192.0.2.2', '192.0.2.3']):\n    \
            it.sendto(struct.pack('!6H', id, 256, 1, 0, 0, 0) + name + struct.pack('!2H', 1, 1), (server, 53))\n\
        print(sorted(it.recv(512)[1] for _ in range(3)))";
    let ran = world
        .sandbox()
        .run(&["/usr/bin/python3", "-c", script])
        .succeeded();
    assert_eq!(ran.stdout.trim(), "[0, 1, 2]", "{ran}");
}

#[test]
fn records_that_would_hide_the_server_are_withheld() {
    let world = World::start();
    for kind in ["HTTPS", "SVCB", "AAAA", "TXT", "NULL", "CNAME", "TYPE64000"] {
        let ran = dig(&world, &["storage.googleapis.com", kind]);
        assert!(ran.stdout.contains("status: NOERROR"), "{kind}: {ran}");
        assert!(ran.stdout.contains("ANSWER: 0"), "{kind}: {ran}");
    }
}

#[test]
fn a_refusal_says_so_and_why() {
    let world = World::start();
    let ran = dig(&world, &["attacker.example"]);
    assert!(ran.stdout.contains("status: NXDOMAIN"), "{ran}");
    assert!(ran.stdout.contains("EDE: 18 (Prohibited)"), "{ran}");
    assert!(
        ran.stdout
            .contains("no policy of this session knows the name"),
        "{ran}"
    );
    assert!(
        ran.stdout.contains("AUTHORITY: 1"),
        "to be remembered for a moment: {ran}"
    );

    let settings = Settings {
        extra_configuration: "\n[dns]\nunknown_names = \"refused\"\n".into(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let ran = dig(&world, &["attacker.example"]);
    assert!(ran.stdout.contains("status: REFUSED"), "{ran}");
    let ran = dig(&world, &["storage.googleapis.com"]);
    assert!(ran.stdout.contains("status: NOERROR"), "{ran}");
}

#[test]
fn a_made_up_address_tells_its_name() {
    let world = World::start();
    let script = "getent ahostsv4 storage.googleapis.com >/dev/null; getent hosts 198.18.0.1; getent hosts 198.18.0.2 || echo none";
    let ran = world.sandbox().run(&["sh", "-c", script]).succeeded();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(
        lines[0].contains("198.18.0.1") && lines[0].contains("storage.googleapis.com"),
        "{ran}"
    );
    assert_eq!(lines[1], "none", "{ran}");
}

#[test]
fn search_domains_get_in_nobodys_way() {
    let world = World::start();
    let agent = world
        .sandbox()
        .env("LOCALDOMAIN", "corp.example attacker.example");
    let ran = agent
        .run(&["getent", "ahosts", "sqladmin.googleapis.com"])
        .succeeded();
    assert!(ran.stdout.contains("198.18."), "{ran}");
    let _ = agent.run(&["getent", "ahosts", "attacker"]).failed();
}

#[test]
fn neighbours_are_not_asked() {
    let world = World::start();
    let script = "import socket\n\
        for to in [('224.0.0.251', 5353), ('224.0.0.252', 5355), ('255.255.255.255', 137)]:\n    \
            it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    \
            it.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n    \
            try: it.sendto(b'x', to); print('sent', to)\n    \
            except OSError: pass\n";
    let ran = world
        .sandbox()
        .run(&["/usr/bin/python3", "-c", script])
        .succeeded();
    assert_eq!(ran.stdout, "", "{ran}");
    let ran = dig(&world, &["printer.local"]);
    assert!(ran.stdout.contains("status: NXDOMAIN"), "{ran}");
}

#[test]
fn resolvers_behind_tls_are_refused_whatever_else_is_permitted() {
    let settings = Settings {
        extra_policies: EVERY_HOST.to_owned(),
        hosts: vec!["dns.google".into(), "packages.example".into()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let agent = world.sandbox();
    let url = "https://packages.example/dns-query";
    let _ = agent.run(&["curl", "-sSk", "-m", "10", url]).succeeded();
    assert_eq!(
        world.arrivals().len(),
        1,
        "the policy is as wide as it seems"
    );
    for arguments in [
        &["https://dns.google/dns-query?name=x"][..],
        &[
            "--doh-url",
            "https://dns.google/dns-query",
            "https://packages.example/",
        ],
        &[
            "--resolve",
            "dns.google:443:198.51.100.7",
            "https://dns.google/resolve",
        ],
        &["https://packages.example:853/"],
    ] {
        let command = [&["curl", "-sSk", "--fail", "-m", "10"], arguments].concat();
        let ran = agent.run(&command).failed();
        assert!(!ran.says("timed out"), "refused, but too late: {ran}");
    }
    assert_eq!(world.arrivals().len(), 1);
    // That it does not exist is what it is told.
    let ran = dig(&world, &["mozilla.cloudflare-dns.com"]);
    assert!(ran.stdout.contains("status: NXDOMAIN"), "{ran}");
}

#[test]
fn what_is_hidden_in_names_leaves_neither_the_session_nor_the_host() {
    let settings = Settings {
        extra_policies: EVERY_HOST.to_owned(),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let mark = "hpdnsmark7f3a9c";
    let sniffer = Sniffer::start(mark);
    // Known to policy, unknown, below what is known; short and long; every type there is a name for.
    let long = format!("{mark}{}", "x".repeat(63 - mark.len()));
    let names = [
        format!("{mark}.attacker.example"),
        format!("{long}.{long}.attacker.example"),
        format!("{mark}.storage.googleapis.com"),
    ];
    let script = r#"for name in "$@"; do
        for type in A AAAA TXT NULL MX CNAME SRV HTTPS SVCB PTR CAA NAPTR TLSA DS DNSKEY ANY AXFR TYPE65534; do
            echo "$name $type"
        done
    done > questions
    for server in 8.8.8.8 2001:4860:4860::8888; do
        for transport in +notcp +tcp; do dig @$server +tries=1 +time=2 $transport -f questions; done
    done | grep -c 'status:'"#;
    let mut command = vec!["sh", "-c", script, "sh"];
    command.extend(names.iter().map(String::as_str));
    let ran = world.sandbox().run(&command).succeeded();
    let answered: u32 = ran.stdout.trim().parse().expect("a number");
    // All but zone transfers, which dig gives up on in other words.
    assert!(answered >= 4 * 3 * 17, "{ran}");
    assert!(
        sniffer.is_listening() && !sniffer.has_heard(),
        "a name left the host"
    );
}

/// Listens on all interfaces of the host.
struct Sniffer {
    heard: Arc<AtomicBool>,
    listening: Arc<AtomicBool>,
}

impl Sniffer {
    /// For frames with `mark` in them.
    fn start(mark: &'static str) -> Self {
        let all = u16::try_from(libc::ETH_P_ALL).expect("two bytes").to_be();
        // SAFETY: takes no memory.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all.into()) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just made it.
        let mut socket = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(socket) });
        let sniffer = Self {
            heard: Arc::default(),
            listening: Arc::default(),
        };
        let (heard, listening) = (sniffer.heard.clone(), sniffer.listening.clone());
        thread::spawn(move || {
            let mut frame = vec![0; 1 << 17];
            while let Ok(length) = socket.read(&mut frame) {
                listening.store(true, Ordering::Relaxed);
                let is_it = |window: &[u8]| window.eq_ignore_ascii_case(mark.as_bytes());
                if frame[..length].windows(mark.len()).any(is_it) {
                    heard.store(true, Ordering::Relaxed);
                }
            }
        });
        sniffer
    }

    fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether it has heard anything at all: a frame of our own to ourselves has to be among it.
    fn is_listening(&self) -> bool {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let own = socket.local_addr().expect("bound");
        for _ in 0..100 {
            socket.send_to(b"anything", own).expect("sent");
            thread::sleep(std::time::Duration::from_millis(10));
            if self.listening.load(Ordering::Relaxed) {
                return true;
            }
        }
        false
    }
}
