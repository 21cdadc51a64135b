//! Names resolve through Holdpoint, and only those that policy knows.

use holdpoint_tests::{canary::Canary, sandbox::Ran, world::World};

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
