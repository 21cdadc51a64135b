//! Tokens of an issuer that nobody here wrote: oauth2-mock-server, from npm.

use holdpoint_tests::{
    issuer::AUDIENCE,
    mock_server::MockServer,
    world::{Settings, World},
};

#[test]
fn its_tokens_open_sessions_for_the_right_audience_only() {
    let issuer = MockServer::start();
    let settings = Settings {
        issuers: vec![issuer.url.clone()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let good = world.sandbox().token(Some(issuer.token(AUDIENCE)));
    let _ = good.run(&["true"]).succeeded();
    let wrong = world.sandbox().token(Some(issuer.token("another-service")));
    let _ = wrong.run(&["touch", "started"]).failed();
    assert!(!wrong.home().join("started").exists());
}
