//! What the package promises, from installation to purge.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use holdpoint_tests::{host, world::INSTANCES_URL};

use crate::{
    container::PATIENCE,
    service::{self, Service},
};

#[test]
fn lintian_finds_nothing() {
    host::require_program("lintian", "lintian").unwrap_or_else(|error| panic!("{error:#}"));
    let output = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(service::package())
        .output()
        .expect("lintian can be run");
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{found}");
}

#[test]
fn the_same_sources_give_the_same_package() {
    let dir = tempfile::tempdir().expect("a directory");
    let again = service::build(dir.path());
    let bytes = |path| fs::read(path).expect("the package was built");
    assert!(bytes(service::package()) == bytes(&again), "they differ");
}

#[test]
fn without_a_configuration_it_is_ready_and_waits() {
    let service = Service::installed();
    let host = &service.container;
    assert_eq!(host.ok("systemctl is-enabled holdpoint"), "enabled");
    assert_eq!(service.property("ActiveState"), "inactive");
    host.ok("systemctl start holdpoint");
    assert_eq!(service.property("ConditionResult"), "no");
    assert_eq!(host.ok("systemctl is-system-running"), "running");
    let units = "holdpoint.service holdpoint-launcher.service holdpoint-launcher.socket";
    let said = host.ok(&format!("systemd-analyze verify --man=no {units} 2>&1"));
    assert_eq!(said, "");
    host.ok("systemd-analyze security --offline=true --threshold=30 holdpoint.service");
    assert_eq!(
        host.ok("systemctl is-active holdpoint-launcher.socket"),
        "active"
    );
    host.ok("getent group holdpoint-reviewers");
    host.ok("holdpoint policy test /etc/holdpoint/policies");
    host.ok("for e in /usr/share/holdpoint/policies/examples/*/; do holdpoint policy test $e || exit; done");
    // What administrators disabled stays so.
    host.ok("systemctl disable --quiet holdpoint");
    service.install();
    assert!(!host.run("systemctl is-enabled holdpoint").status.success());
}

#[test]
fn a_session_works_and_does_not_feel_the_services_sandbox() {
    let service = Service::started();
    let host = &service.container;
    assert_eq!(service.property("ActiveState"), "active");
    service.assert_serves();
    host.ok("holdpoint status && holdpoint approvals list && holdpoint sessions list");

    host.ok("install -d -o agent /usr/local/tools && echo mine > /srv/of-the-host");
    // No bash: its `ulimit` would say what dash's says.
    let script = "
        echo of-the-session > /usr/local/tools/file
        cat /srv/of-the-host
        mkdir -m 2775 /home/agent/shared
        setarch --addr-no-randomize true
        nice -n 1 true
        test -c /dev/null
        umask; ulimit -Hn; ulimit -Sn; cat /proc/self/oom_score_adj; hostname";
    let inside = service.in_session(script);
    let outside = host.ok(
        "runuser -u agent -- sh -c 'cat /srv/of-the-host; umask; ulimit -Hn; ulimit -Sn; cat /proc/self/oom_score_adj; hostname'",
    );
    assert_eq!(inside, outside);
    host.ok("test -e /usr/local/tools/file -a -g /home/agent/shared");
}

#[test]
fn it_comes_back_after_restart_crash_and_hang() {
    let service = Service::started();
    let host = &service.container;
    let mut pids = vec![service.property("MainPID")];
    let mut is_another = |after: &str| {
        let old = pids.last().expect("one").clone();
        host.eventually(
            &format!(
                "case $(systemctl show --value --property=MainPID holdpoint) in 0|{old}) false;; esac && systemctl is-active --quiet holdpoint"
            ),
            PATIENCE,
        );
        service.assert_serves();
        let new = service.property("MainPID");
        assert!(!pids.contains(&new), "after {after}");
        pids.push(new);
    };
    host.ok("systemctl restart holdpoint");
    is_another("restart");
    host.ok("systemctl kill --kill-whom=main --signal=KILL holdpoint");
    is_another("kill -9");

    host.write(
        "/etc/systemd/system/holdpoint.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=2\n",
    );
    host.ok("systemctl daemon-reload && systemctl restart holdpoint");
    is_another("restart");
    // As long as it is alive it says so: several times the limit.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(service.property("NRestarts"), "0");
    host.ok("systemctl kill --kill-whom=main --signal=STOP holdpoint");
    is_another("SIGSTOP");
    assert_eq!(service.property("NRestarts"), "1");

    service.install();
    is_another("an upgrade");
}

#[test]
fn a_session_outlives_restart_crash_and_upgrade() {
    let service = Service::started();
    let host = &service.container;
    let url = INSTANCES_URL;
    let script = format!(
        "while ! test -e end; do curl -sS -o /dev/null -w '%{{http_code}}\\n' --max-time 5 {url} 2>&1 || true; sleep 0.1; done; echo $HOLDPOINT_SESSION"
    );
    let session = service
        .session(&script)
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter can be run");
    let id = "holdpoint sessions list --output json | grep -o '\"s-[a-z0-9]*\"'";
    host.eventually(
        &format!("{id} && systemctl is-active holdpoint-launcher"),
        PATIENCE,
    );
    let id = host.ok(id);
    let mut arrived = service.arrivals();
    let mut goes_on = |after: &str| {
        let started = Instant::now();
        while service.arrivals() < arrived + 5 {
            assert!(
                started.elapsed() < PATIENCE,
                "after {after} nothing arrives:\n{}",
                host.ok("journalctl --no-pager --unit='holdpoint*' --lines=80")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        arrived = service.arrivals();
    };
    goes_on("the start");
    let pid = host.ok("systemctl show --value --property=MainPID holdpoint-launcher");
    host.ok("systemctl restart holdpoint");
    goes_on("a restart");
    assert_eq!(
        host.ok("systemctl show --value --property=MainPID holdpoint-launcher"),
        pid
    );
    host.ok("systemctl kill --kill-whom=main --signal=KILL holdpoint");
    goes_on("kill -9");
    host.ok("systemctl restart holdpoint-launcher");
    goes_on("the launcher's restart");
    host.ok("systemctl stop holdpoint holdpoint-launcher.socket holdpoint-launcher");
    std::thread::sleep(Duration::from_millis(300));
    let stopped = service.arrivals();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(service.arrivals(), stopped);
    host.ok("systemctl start holdpoint");
    goes_on("stop and start of all of it");
    service.install();
    goes_on("an upgrade");
    service.assert_serves();
    host.ok("touch /home/agent/end");
    let said = session.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(Some(id.trim_matches('"')), said.lines().last(), "{said}");
    host.eventually("! pgrep holdpoint-shim", PATIENCE);
}

#[test]
fn reload_reads_the_policies_again() {
    let service = Service::started();
    let host = &service.container;
    let denied = "curl -sS -o /dev/null -w '%{http_code}' --max-time 20 \
        https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances";
    host.write(
        "/etc/holdpoint/policies/99-none.cedar",
        "@id(\"nothing-at-all\")\nforbid(principal, action, resource);\n",
    );
    service.assert_serves();
    let pid = service.property("MainPID");
    host.ok("systemctl reload holdpoint");
    host.eventually(
        "journalctl --unit=holdpoint | grep -q 'policies reloaded'",
        PATIENCE,
    );
    assert_eq!(service.in_session(denied), "403");
    assert_eq!(service.property("MainPID"), pid);
}

#[test]
fn removed_it_leaves_no_session_and_purged_nothing() {
    let service = Service::started();
    let host = &service.container;
    let mut session = service
        .session("touch running; exec sleep 1000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter can be run");
    host.eventually("test -e /home/agent/running", PATIENCE);
    // The daemon dies and may not come back: its session stays, and its programs.
    host.write(
        "/etc/systemd/system/holdpoint.service.d/once.conf",
        "[Service]\nRestart=no\n",
    );
    host.ok("systemctl daemon-reload");
    host.ok("systemctl kill --kill-whom=main --signal=KILL holdpoint");
    host.eventually("! systemctl is-active --quiet holdpoint", PATIENCE);
    host.ok("pgrep -u agent sleep && test -n \"$(ls /sys/fs/bpf/holdpoint/links)\"");

    host.ok("dpkg --remove holdpoint 2>&1");
    let status = session.wait().expect("our own child");
    assert!(!status.success());
    host.ok("! pgrep -u agent sleep && ! pgrep holdpoint");
    host.ok(&format!("! test -e /sys/fs/cgroup/{}-agents", host.name));
    host.ok("! test -e /run/holdpoint");
    host.ok("! test -e /sys/fs/bpf/holdpoint");
    host.ok("test -e /etc/holdpoint/holdpoint.toml -a -d /var/lib/holdpoint/record");

    host.ok("dpkg --purge holdpoint 2>&1");
    // The administrator's own drop-ins excepted, and the group.
    let left = host.ok(
        "rm -r /etc/systemd/system/holdpoint.service.d; find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -iname '*holdpoint*' -print",
    );
    assert_eq!(left, "");
}
