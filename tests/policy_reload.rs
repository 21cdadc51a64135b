//! Policies are replaced as a whole, while the daemon runs, and only by ones that are valid.

use std::{fs, time::Duration};

use holdpoint_tests::world::World;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";

/// Writes a policy file and has the daemon read it; returns once its log says `outcome`.
fn reload(world: &World, policy: &str, outcome: &str) {
    fs::write(world.dir().join("policies/90-test.cedar"), policy).expect("a policy file");
    let said = world.daemon_log().matches(outcome).count();
    let pid = i32::try_from(world.daemon_pid()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("the daemon is alive");
    for _ in 0..200 {
        if world.daemon_log().matches(outcome).count() > said {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!(
        "the daemon did not say \"{outcome}\":\n{}",
        world.daemon_log()
    );
}

const NO_READS: &str = r#"@id("no-reads")
forbid (principal, action == Action::"sql.instances.get", resource);"#;
const NO_DELETES: &str = r#"@id("no-deletes")
forbid (principal, action == Action::"sql.instances.delete", resource);"#;

#[test]
fn new_policies_count_at_once_and_broken_ones_never() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let get = ["curl", "-sS", "--fail", url.as_str()];
    let _ = world.sandbox().run(&get).succeeded();

    reload(&world, NO_READS, "policies reloaded");
    let _ = world.sandbox().run(&get).failed();

    reload(&world, "permit (", "the running policies stay in force");
    let _ = world.sandbox().run(&get).failed();

    reload(&world, "", "policies reloaded");
    let _ = world.sandbox().run(&get).succeeded();
}

#[test]
fn an_approval_does_not_outlive_the_policy_it_was_asked_under() {
    let world = World::start();
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let held = world
        .sandbox()
        .start(&["curl", "-sS", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("sql.instances.delete");
    reload(&world, NO_DELETES, "policies reloaded");
    world.approve(hold.id()).expect("root may approve");
    let told = held.finish();
    assert!(told.says("policy about"), "{told}");
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}
