//! Runners as they install themselves, put behind Holdpoint with a drop-in, as systemd/README.md says.

use std::time::Duration;

use holdpoint_tests::{ci, ci::Ci, world::INSTANCES_URL};

use crate::{container::PATIENCE, service::Service};

/// As `./svc.sh install runner` writes it (`bin/actions.runner.service.template` of github.com/actions/runner).
const GITHUB: &str = "[Unit]
Description=GitHub Actions Runner (acme-shop.one)
After=network-online.target

[Service]
ExecStart=/home/runner/runsvc.sh
User=runner
WorkingDirectory=/home/runner
KillMode=process
KillSignal=SIGTERM
TimeoutStopSec=5min

[Install]
WantedBy=multi-user.target
";
const GITHUB_UNIT: &str = "actions.runner.acme-shop.one.service";

/// As `gitlab-runner install` writes it.
const GITLAB: &str = "[Unit]
Description=GitLab Runner
After=network.target

[Service]
StartLimitInterval=5
StartLimitBurst=10
ExecStart=/usr/bin/gitlab-runner \"run\" \"--working-directory\" \"/home/gitlab-runner\" \"--config\" \"/etc/gitlab-runner/config.toml\" \"--service\" \"gitlab-runner\" \"--user\" \"gitlab-runner\"
Restart=always
RestartSec=120

[Install]
WantedBy=multi-user.target
";

/// What stands in for the runners' programs; in this program, because virtual machines have no repository.
const RUNNER: &str = include_str!("../clients/runner.sh");

const PLAIN: &str = "[Service]
User=worker
WorkingDirectory=/home/worker
ExecStart=/home/worker/work
";

const SERVICES: &str = r#"
[[service]]
name = "github-runner"
user = "runner"
unit = "actions.runner.*"
job_issuer = "ISSUER"
hosts = ["ci.example"]

[[service]]
name = "gitlab-runner"
user = "gitlab-runner"
unit = "gitlab-runner.service"
job_issuer = "ISSUER"
hosts = ["ci.example"]

[[service]]
name = "worker"
user = "worker"
unit = "worker.service"
hosts = ["ci.example"]
"#;

/// A host with the package, and a CI system that its runners poll.
struct Scene {
    service: Service,
    ci: Ci,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ci = Ci::start(dir.path()).expect("a CI system");
        let service = Service::installed();
        service.configure();
        let services = SERVICES.replace("ISSUER", service.issuer.url());
        service.add_configuration(&format!(
            "\"{}\" = \"{}\"\n{services}",
            ci::HOST,
            ci.address
        ));
        Self {
            service,
            ci,
            _dir: dir,
        }
    }

    /// A user with a home, in which scripted runners find what they need.
    fn user(&self, name: &str) {
        let host = &self.service.container;
        host.ok(&format!(
            "useradd --create-home --shell /bin/bash {name} && install -d -o {name} /home/{name}/jobs"
        ));
        host.write(&format!("/home/{name}/runner.sh"), RUNNER);
        host.write(&format!("/home/{name}/ci.pem"), &self.ci.pem);
    }

    fn drop_in(&self, unit: &str, text: &str) {
        let dir = format!("/etc/systemd/system/{unit}.d");
        self.service
            .container
            .write(&format!("{dir}/holdpoint.conf"), text);
    }

    fn link_drop_in(&self, unit: &str, name: &str) {
        self.service.container.ok(&format!(
            "mkdir -p /etc/systemd/system/{unit}.d &&
             ln -s /usr/share/holdpoint/dropins/{name} /etc/systemd/system/{unit}.d/holdpoint.conf"
        ));
    }

    fn start_all(&self, unit: &str) {
        let host = &self.service.container;
        host.ok(&format!(
            "systemctl daemon-reload && systemctl restart holdpoint {unit}"
        ));
        host.eventually(&format!("systemctl is-active --quiet {unit}"), PATIENCE);
    }

    /// Runs a script as the runner's worker would; what it printed.
    fn job(&self, user: &str, number: u32, script: &str) -> String {
        let host = &self.service.container;
        let job = format!("/home/{user}/jobs/{number}.job");
        host.write(&format!("{job}.draft"), script);
        host.ok(&format!("mv {job}.draft {job}"));
        host.eventually(&format!("test -e {job}.done"), PATIENCE);
        host.ok(&format!("cat {job}.done"))
    }

    /// The job acts for itself. In a container with process numbers of its own the daemon cannot tell who asks for that, and says so.
    fn assert_bound(&self, ran: &str) {
        if self.service.container.has_own_process_numbers() {
            let told = ran.contains("bound 1") && ran.contains("run it on the host");
            assert!(told && ran.contains("google 403"), "{ran}");
        } else {
            let is_bound = ran.contains("bound 0") && ran.contains("google 200");
            assert!(is_bound, "{ran}");
        }
    }

    /// The live sessions of a service, as root sees them.
    fn sessions(&self, of: &str) -> usize {
        let said = self
            .service
            .container
            .ok("holdpoint sessions list --output json");
        let all: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let all = all.as_array().expect("a list");
        let is_it = |it: &&serde_json::Value| it["service"] == of && it["live"] == true;
        all.iter().filter(is_it).count()
    }
}

fn call() -> String {
    format!("curl -sS -m 60 -o /dev/null -w 'google %{{http_code}}\\n' {INSTANCES_URL}")
}

fn poll() -> String {
    let url = format!("https://{}/poll", ci::HOST);
    format!("curl -sS -m 60 -o /dev/null --cacert ci.pem -w 'ci %{{http_code}}\\n' {url}")
}

/// As GitHub's worker does around a job: with the variables by which it asks for ID tokens, and the hooks that the drop-in sets.
fn with_githubs_hooks(steps: &str) -> String {
    format!(
        "export ACTIONS_ID_TOKEN_REQUEST_URL='https://{}/token?api-version=2.0'
         export ACTIONS_ID_TOKEN_REQUEST_TOKEN={}
         SSL_CERT_FILE=ci.pem \"$ACTIONS_RUNNER_HOOK_JOB_STARTED\"; echo bound $?
         {steps}
         \"$ACTIONS_RUNNER_HOOK_JOB_COMPLETED\"; echo unbound $?",
        ci::HOST,
        ci::REQUEST_TOKEN
    )
}

#[test]
fn githubs_runner_runs_inside_and_binds_its_jobs() {
    let scene = Scene::start();
    let host = &scene.service.container;
    scene.user("runner");
    host.write("/home/runner/runsvc.sh", "#!/bin/sh\nexec sh runner.sh\n");
    host.ok("chmod 755 /home/runner/runsvc.sh");
    host.write(&format!("/etc/systemd/system/{GITHUB_UNIT}"), GITHUB);
    scene.link_drop_in(GITHUB_UNIT, "github-actions-runner.conf");
    scene.start_all(GITHUB_UNIT);

    let ran = scene.job("runner", 1, &format!("{}; {}", poll(), call()));
    assert!(
        ran.contains("ci 200") && ran.contains("google 403"),
        "{ran}"
    );
    scene.ci.hand_out(&scene.service.issuer.token());
    let ran = scene.job("runner", 2, &with_githubs_hooks(&call()));
    scene.assert_bound(&ran);
    assert_eq!(
        ran.contains("unbound 0"),
        ran.contains("bound 0\ngoogle"),
        "{ran}"
    );
    let ran = scene.job("runner", 3, &call());
    assert!(ran.contains("google 403"), "{ran}");

    // The daemon goes and comes; the runner stays.
    let pid = format!("systemctl show --value --property=MainPID {GITHUB_UNIT}");
    let before = host.ok(&pid);
    host.ok("systemctl restart holdpoint");
    let ran = scene.job("runner", 4, &format!("{}; {}", poll(), call()));
    assert!(
        ran.contains("ci 200") && ran.contains("google 403"),
        "{ran}"
    );
    assert_eq!(host.ok(&pid), before);
    assert_eq!(scene.sessions("github-runner"), 1);

    // An ephemeral runner ends after its job; what comes next is a session anew.
    host.ok("touch /home/runner/stop");
    host.eventually(
        &format!("systemctl show --value --property=NRestarts {GITHUB_UNIT} | grep -qx '[1-9].*'"),
        PATIENCE,
    );
    host.ok("rm /home/runner/stop");
    let ran = scene.job("runner", 5, &poll());
    assert!(ran.contains("ci 200"), "{ran}");

    // With the unit ends all that it started, although its KillMode= is `process`.
    host.write("/home/runner/leave.sh", "exec sleep 7777\n");
    let _ = scene.job(
        "runner",
        6,
        "setsid sh leave.sh >/dev/null 2>&1 & sleep 0.2",
    );
    host.ok("pgrep -fx 'sleep 7777'");
    host.ok(&format!("systemctl stop {GITHUB_UNIT}"));
    host.eventually("! pgrep -fx 'sleep 7777'", Duration::from_secs(20));
    assert_eq!(scene.sessions("github-runner"), 0);
}

#[test]
fn gitlabs_runner_runs_inside_and_binds_its_jobs() {
    let scene = Scene::start();
    let host = &scene.service.container;
    scene.user("gitlab-runner");
    // Where GitLab's package has its program.
    host.write(
        "/usr/bin/gitlab-runner",
        "#!/bin/sh\ncd /home/gitlab-runner && echo \"$@\" >arguments\nexec sh runner.sh\n",
    );
    host.ok("chmod 755 /usr/bin/gitlab-runner && mkdir -p /etc/gitlab-runner");
    host.ok("touch /etc/gitlab-runner/config.toml");
    host.ok("chown -R gitlab-runner: /etc/gitlab-runner /home/gitlab-runner");
    host.write("/etc/systemd/system/gitlab-runner.service", GITLAB);
    scene.link_drop_in("gitlab-runner.service", "gitlab-runner.conf");
    scene.start_all("gitlab-runner.service");

    let ran = scene.job(
        "gitlab-runner",
        1,
        &format!("{}; {}; cat arguments", poll(), call()),
    );
    assert!(
        ran.contains("ci 200") && ran.contains("google 403"),
        "{ran}"
    );
    assert!(ran.contains("run --config"), "{ran}");
    // pre_get_sources_script, in a job with `id_tokens: HOLDPOINT_TOKEN`.
    let token = scene.service.issuer.token();
    let hook = "/usr/share/holdpoint/hooks/job-started.sh; echo bound $?";
    let bind = format!("export HOLDPOINT_TOKEN={token}\n{hook}\n{}", call());
    let ran = scene.job("gitlab-runner", 2, &bind);
    scene.assert_bound(&ran);
    host.ok("systemctl stop gitlab-runner.service");
    assert_eq!(scene.sessions("gitlab-runner"), 0);
}

#[test]
fn any_other_unit_runs_inside_and_a_stranger_does_not_pass_for_it() {
    let scene = Scene::start();
    let host = &scene.service.container;
    scene.user("worker");
    host.write("/home/worker/work", "#!/bin/sh\nexec sh runner.sh\n");
    host.ok("chmod 755 /home/worker/work");
    host.write("/etc/systemd/system/worker.service", PLAIN);
    let dropin = host.ok("cat /usr/share/holdpoint/dropins/plain-unit.conf");
    let dropin = dropin
        .replace("NAME", "worker")
        .replace("COMMAND", "/home/worker/work");
    scene.drop_in("worker.service", &dropin);
    scene.start_all("worker.service");
    let ran = scene.job("worker", 1, &format!("{}; {}", poll(), call()));
    assert!(
        ran.contains("ci 200") && ran.contains("google 403"),
        "{ran}"
    );

    // The same user, outside of the unit.
    let stranger = "runuser -u worker -- holdpoint run --service worker -- true 2>&1";
    let ran = host.run(stranger);
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        !ran.status.success() && said.contains("worker.service"),
        "{said}"
    );

    // The unit started without its daemon reaches nothing, and comes up with it.
    host.ok("systemctl stop holdpoint worker.service");
    host.run("systemctl start --no-block worker.service");
    std::thread::sleep(Duration::from_secs(2));
    host.ok("systemctl start holdpoint");
    let ran = scene.job("worker", 2, &poll());
    assert!(ran.contains("ci 200"), "{ran}");
}
