//! The main job with the installed package: what is allowed passes, what is held waits for a reviewer, what is denied does not pass, and
//! without the daemon nothing does.

use std::{
    process::{Child, Stdio},
    thread::sleep,
    time::Duration,
};

use holdpoint_tests::{
    stand_in::{Arrival, now},
    world::INSTANCES_URL,
};
use serde_json::Value;

use crate::{container::PATIENCE, service::Service};

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
/// How long what had left before may be under way to the stand-in, on an emulated machine: milliseconds.
const UNDER_WAY: u64 = 500;
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";

impl Service {
    /// What Google was asked for since, by the clock of all of us.
    fn arrivals_since(&self, moment: u64) -> Vec<Arrival> {
        let mut all = self
            .google
            .journal()
            .arrivals()
            .expect("the journal can be read");
        all.retain(|arrival| arrival.t > moment);
        all
    }

    fn count(&self, method: &str, path: &str) -> usize {
        let all = self.arrivals_since(0);
        all.iter().filter(|it| it.asks(method, path)).count()
    }

    /// The id of the one held operation, as a reviewer sees it.
    fn wait_for_hold(&self) -> String {
        let list = "runuser -u reviewer -- holdpoint approvals list --output json";
        let one = format!("{list} | grep -q '\"id\"'");
        self.container.eventually(&one, PATIENCE);
        let said: Value = serde_json::from_str(&self.container.ok(list)).expect("JSON");
        let all = said.as_array().expect("a list");
        assert_eq!(all.len(), 1, "{said:#}");
        assert!(said.to_string().contains("prod-db"), "{said:#}");
        all[0]["id"].as_str().expect("an id").to_owned()
    }

    /// A session that asks for the same thing again and again, until it is dropped.
    fn asking(&self) -> Asking {
        let script = format!(
            "while :; do curl -sS -o /dev/null --max-time 5 {INSTANCES_URL} || sleep 0.2; done"
        );
        let before = self.arrivals_since(0).len();
        let mut session = self.session(&script);
        session.stdout(Stdio::null()).stderr(Stdio::null());
        let asking = Asking(session.spawn().expect("nsenter can be run"));
        for _ in 0..PATIENCE.as_millis() / 50 {
            if self.arrivals_since(0).len() > before + 3 {
                return asking;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("nothing passes at all");
    }
}

/// What runs until it is dropped: `holdpoint run`, say, which ends its session when it goes.
struct Asking(Child);

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_held_waits_for_a_reviewer_and_what_is_denied_never_leaves() {
    let service = Service::started();
    let host = &service.container;
    service.assert_serves();

    host.ok("useradd --create-home --groups holdpoint-reviewers reviewer");
    let delete = format!(
        "curl -sS --http1.1 --fail --max-time 300 -X DELETE https://sqladmin.googleapis.com{PROD_DB}"
    );
    let running = service
        .session(&delete)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter can be run");
    let id = service.wait_for_hold();
    // Nobody answers for themselves.
    let answer = format!("holdpoint approvals approve {id} --comment fine");
    assert!(
        !host
            .run(&format!("runuser -u agent -- {answer}"))
            .status
            .success()
    );
    sleep(Duration::from_secs(2));
    assert_eq!(service.count("DELETE", PROD_DB), 0);
    host.ok(&format!("runuser -u reviewer -- {answer}"));
    let ran = running.wait_with_output().expect("our own child");
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(service.count("DELETE", PROD_DB), 1);

    let answer = service.in_session(&format!(
        "curl -sS -w ' %{{http_code}}' --max-time 60 -H 'Content-Type: application/json' \
         -d '{{\"name\":\"fw1\",\"sourceRanges\":[\"0.0.0.0/0\"],\"allowed\":[{{\"IPProtocol\":\"tcp\",\"ports\":[\"22\"]}}]}}' \
         https://compute.googleapis.com{FIREWALLS}"
    ));
    assert!(answer.ends_with(" 403"), "{answer}");
    assert!(answer.contains("oldpoint"), "{answer}");
    assert_eq!(service.count("POST", FIREWALLS), 0);
    // All of it is in the record.
    let sessions = host.ok("holdpoint sessions list");
    assert!(sessions.contains("agent"), "{sessions}");
}

#[test]
fn who_is_logged_in_is_told_of_a_hold_on_their_terminal() {
    let service = Service::installed();
    service.configure();
    service.add_configuration("[[notification]]\nkind = \"terminals\"\n");
    let host = &service.container;
    host.ok("systemctl start holdpoint");
    host.ok("useradd --create-home --groups holdpoint-reviewers reviewer");
    // script(1) makes a terminal of the user's own, as a login does, and keeps what appears on it. Since systemd 258 they are made as after
    // `mesg n`, which is left alone.
    let login = |user: &str| {
        let shell = "chmod g+w $(tty); stat -c %U:%a $(tty); exec sleep 600";
        let script = format!("script --quiet --flush --command '{shell}' /home/{user}/seen");
        let mut command = host.command(&format!("exec runuser -u {user} -- {script}"));
        let login = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        host.eventually(&format!("grep -q {user}:620 /home/{user}/seen"), PATIENCE);
        Asking(login.expect("nsenter can be run"))
    };
    let (_reviewer, _agent) = (login("reviewer"), login("agent"));

    let delete = format!(
        "curl -sS --http1.1 --max-time 300 -X DELETE https://sqladmin.googleapis.com{PROD_DB}"
    );
    let mut running = service.session(&delete);
    let running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Asking(running.expect("nsenter can be run"));
    let id = service.wait_for_hold();
    host.eventually(&format!("grep -q {id} /home/reviewer/seen"), PATIENCE);
    host.ok("grep -q 'To answer: holdpoint review' /home/reviewer/seen");
    // Nobody is asked about what they ask for.
    host.ok(&format!("! grep -q {id} /home/agent/seen"));
    drop(running);
}

#[test]
fn nothing_passes_while_the_daemon_is_dead_or_stopped() {
    let service = Service::started();
    let host = &service.container;
    host.write(
        "/etc/systemd/system/holdpoint.service.d/later.conf",
        "[Service]\nRestartSec=10\n",
    );
    host.ok("systemctl daemon-reload");
    let asking = service.asking();
    let pid = service.property("MainPID");
    host.ok(&format!("kill -9 {pid}"));
    host.eventually(&format!("! kill -0 {pid}"), PATIENCE);
    let dead = now();
    sleep(Duration::from_secs(4));
    let late = service.arrivals_since(dead + UNDER_WAY);
    assert_ne!(
        service.property("ActiveState"),
        "active",
        "too late to tell"
    );
    assert!(late.is_empty(), "{late:?}");
    drop(asking);
    // systemd brings it back.
    host.eventually("systemctl is-active --quiet holdpoint", PATIENCE);
    assert_ne!(service.property("MainPID"), pid);
    service.assert_serves();

    let asking = service.asking();
    host.ok("systemctl stop holdpoint");
    let stopped = now();
    let ran = service
        .session(&format!("curl --max-time 5 {INSTANCES_URL}"))
        .output()
        .expect("nsenter can be run");
    assert!(!ran.status.success(), "{ran:?}");
    sleep(Duration::from_secs(2));
    let late = service.arrivals_since(stopped + UNDER_WAY);
    assert!(late.is_empty(), "{late:?}");
    drop(asking);
    host.ok("systemctl start holdpoint");
    service.assert_serves();
}

#[test]
fn the_doctor_finds_the_installed_service_sound() {
    let service = Service::started();
    let said = service.container.ok("holdpoint doctor --only checks");
    assert!(said.contains("enforcement"), "{said}");
}
