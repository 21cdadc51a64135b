//! Hosts that are not Google's: those that policy names pass through unopened, all others are refused.

use holdpoint_tests::{
    sandbox::Sandbox,
    world::{Settings, World},
};

const HOST: &str = "packages.example";
const POLICY: &str = r#"
@id("packages")
permit(principal, action in Action::"net", resource in Host::"packages.example")
unless { context has port && context.port != 443 };
"#;

fn world() -> World {
    let settings = Settings {
        extra_policies: POLICY.to_owned(),
        hosts: vec![HOST.to_owned(), "elsewhere.example".to_owned()],
        ..Settings::default()
    };
    World::with(&settings).expect("a world")
}

/// The real server's own certificate: a connection that Holdpoint had opened would show another.
fn real_authority(world: &World, agent: &Sandbox<'_>) -> String {
    let pem = std::fs::read(&world.google.ca_file).expect("the stand-in's certificate");
    agent
        .file("real-ca.pem", pem)
        .to_str()
        .expect("a plain path")
        .to_owned()
}

#[test]
fn a_permitted_host_is_reached_unopened_and_without_the_credential() {
    let world = world();
    let agent = world.sandbox();
    let ca = real_authority(&world, &agent);
    let url = format!("https://{HOST}/index.html");
    let ran = agent
        .run(&["curl", "-sS", "--cacert", &ca, "-w", "%{http_code}", &url])
        .succeeded();
    assert!(
        ran.stdout.ends_with("401"),
        "the stand-in wants a credential: {ran}"
    );
    let arrivals = world.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].host, HOST);
    assert_eq!(arrivals[0].authorization, None);
}

#[test]
fn other_hosts_and_other_ports_are_refused() {
    let world = world();
    let agent = world.sandbox();
    let ca = real_authority(&world, &agent);
    let others = [
        "https://elsewhere.example/".to_owned(),
        format!("https://{HOST}:8443/"),
        format!("http://{HOST}/"),
    ];
    for url in others {
        let ran = agent
            .run(&["curl", "-sS", "--fail", "-m", "10", "--cacert", &ca, &url])
            .failed();
        assert!(!ran.says("timed out"), "refused, but too late: {ran}");
    }
    assert!(world.arrivals().is_empty());
}

#[test]
fn a_permitted_name_is_no_way_to_google() {
    let world = world();
    let agent = world.sandbox();
    let ca = real_authority(&world, &agent);
    // Connects by the permitted name's address, and asks for Google in SNI and Host.
    let to = "sqladmin.googleapis.com:443:packages.example:443";
    let url = "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
    let delete = [
        "curl",
        "-sS",
        "-m",
        "5",
        "-k",
        "--cacert",
        &ca,
        "--connect-to",
        to,
        "-X",
        "DELETE",
        url,
    ];
    let _ = agent.run(&delete);
    assert!(world.arrivals().is_empty());
}
