//! Policies are replaced as a whole, while the daemon runs, and only by ones that are valid.

use std::{fs, time::Duration};

use holdpoint_tests::{
    sandbox::Running,
    world::{INSTANCES_URL, World},
};
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

#[test]
fn policies_are_replaced_under_load_without_a_gap_and_without_a_failure() {
    let world = World::start();
    reload(&world, NO_DELETES, "policies reloaded");
    // Ends with the first request that fails.
    let ask = ["--connections", "4", "--seconds", "6", INSTANCES_URL];
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let agent = world.sandbox();
            let program = agent.program("load-generator");
            agent.start(&[&[program.as_str()][..], &ask].concat())
        })
        .collect();
    let agent = world.sandbox();
    let end = agent.home().join("end");
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let script = "while [ ! -e \"$1\" ]; do curl -sS -o /dev/null -w '%{http_code}\\n' -X DELETE \"$2\"; done";
    let end_path = end.to_str().expect("a plain path");
    let deleting = agent.start(&["sh", "-c", script, "sh", end_path, &url]);

    let (mut asking, mut reloads) = (asking, 0);
    while asking.iter_mut().any(Running::is_running) {
        // Now and then a file that is not valid.
        let (policy, outcome) = match reloads % 5 {
            4 => ("permit (", "the running policies stay in force"),
            _ => (NO_DELETES, "policies reloaded"),
        };
        reload(&world, policy, outcome);
        reloads += 1;
    }
    fs::write(&end, "").expect("our own");
    for asking in asking {
        let _ = asking.finish().succeeded();
    }
    let told = deleting.finish().succeeded();
    let codes: Vec<_> = told.stdout.lines().collect();
    assert!(
        codes.len() > 10 && codes.iter().all(|code| *code == "403"),
        "{told}"
    );
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    assert!(reloads > 10, "{reloads} reloads");
}
