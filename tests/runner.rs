//! A CI runner has a session of its own, in which nothing but its own hosts is open, and each of its jobs is bound to another.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    ci::{self, Ci},
    files::repository,
    issuer::{Flaw, SUBJECT},
    reviewer::{events, session_id, sessions},
    sandbox::{Running, Sandbox},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::{Value, json};

const SERVICES: &str = r#"
[[service]]
name = "runner"
user = "nobody"
hosts = ["ci.example"]
job_issuer = "ISSUER"

[[service]]
name = "elsewhere"
user = "daemon"
hosts = ["ci.example"]

[[service]]
name = "in-a-unit"
user = "nobody"
unit = "actions.runner.*"
hosts = ["ci.example"]
"#;

/// A CI system, and a world with its runner.
struct Scene {
    world: World,
    ci: Ci,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::with(SERVICES, Settings::default())
    }

    fn with(services: &str, settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ci = Ci::start(dir.path()).expect("a CI system");
        let services = services.replace("METADATA", &ci.metadata.to_string());
        let settings = Settings {
            addresses: vec![(ci::HOST.to_owned(), ci.address)],
            extra_configuration: services,
            ..settings
        };
        let world = World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"));
        Self {
            world,
            ci,
            _dir: dir,
        }
    }

    fn runner(&self) -> Runner<'_> {
        Runner::start(self, self.world.sandbox().service("runner"))
    }

    /// The sessions of jobs, newest first.
    fn jobs(&self) -> Vec<Value> {
        let mut all = sessions(&self.world).expect("a list");
        all.retain(|session| !session["within"].is_null());
        all
    }
}

/// The program, where the sandbox finds it: it has a /tmp of its own, and in that nothing but its home.
fn program(world: &World, sandbox: &Sandbox<'_>) -> String {
    let link = sandbox.home().join("holdpoint");
    if !link.exists() {
        fs::hard_link(world.binary(), &link).expect("the same file system");
    }
    link.to_str().expect("a plain path").to_owned()
}

/// A runner that waits for jobs.
struct Runner<'s> {
    scene: &'s Scene,
    home: PathBuf,
    running: Running,
    count: u32,
}

impl<'s> Runner<'s> {
    fn start(scene: &'s Scene, sandbox: Sandbox<'s>) -> Self {
        let _ = sandbox.file("ci.pem", &scene.ci.pem);
        let clients = repository().join("tests/clients");
        for client in ["runner.sh", "keep_open.py"] {
            let text = fs::read(clients.join(client)).expect("a client");
            let _ = sandbox.file(client, text);
        }
        for hook in ["job-started.sh", "job-completed.sh"] {
            let text = fs::read_to_string(repository().join("systemd/hooks").join(hook));
            let program = program(&scene.world, &sandbox);
            let text = text
                .expect("a hook")
                .replace("/usr/bin/holdpoint", &program);
            let _ = sandbox.file(hook, text);
        }
        let home = sandbox.home().to_owned();
        fs::create_dir(home.join("jobs")).expect("our own directory");
        std::os::unix::fs::chown(home.join("jobs"), Some(65534), None).expect("given away");
        Self {
            scene,
            home,
            running: sandbox.start(&["sh", "runner.sh"]),
            count: 0,
        }
    }

    /// Runs a script as a worker of the runner would, and returns what it printed.
    fn run(&mut self, script: &str) -> String {
        self.count += 1;
        let job = self.home.join(format!("jobs/{}.job", self.count));
        let draft = job.with_extension("draft");
        fs::write(&draft, script).expect("our own directory");
        fs::rename(&draft, &job).expect("our own directory");
        let done = self.home.join(format!("jobs/{}.job.done", self.count));
        let started = Instant::now();
        while !done.exists() {
            assert!(
                started.elapsed() < Duration::from_secs(60) && self.running.is_running(),
                "the runner does not run {script:?}\n{}",
                self.scene.world.daemon_log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::read_to_string(done).expect("what it printed")
    }

    /// The same with the hooks that a GitHub runner runs around a job. The job can ask for ID tokens.
    fn job(&mut self, steps: &str) -> String {
        self.run(&format!("{STARTED}\n{steps}\n{COMPLETED}"))
    }

    fn stop(self) {
        fs::write(self.home.join("stop"), "").expect("our own directory");
        let _ = self.running.finish().succeeded();
    }
}

/// As the runner's worker does it: with the variables by which a job asks for ID tokens.
const STARTED: &str = "
export ACTIONS_ID_TOKEN_REQUEST_URL='https://ci.example/token?api-version=2.0'
export ACTIONS_ID_TOKEN_REQUEST_TOKEN=the-jobs-request-token
SSL_CERT_FILE=ci.pem sh job-started.sh; echo bound $?";
const COMPLETED: &str = "sh job-completed.sh; echo unbound $?";

fn call() -> String {
    format!("curl -sS -m 20 -w '\\nstatus %{{http_code}}\\n' {INSTANCES_URL}")
}

fn poll() -> String {
    "curl -sS -m 20 --cacert ci.pem -w '\\nstatus %{http_code}\\n' https://ci.example/poll".into()
}

#[test]
fn a_runner_reaches_its_own_hosts_and_each_job_acts_for_itself() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    let polled = runner.run(&poll());
    assert!(polled.contains("status 200"), "{polled}");
    let before = runner.run(&call());
    assert!(before.contains("status 403"), "{before}");
    assert!(before.contains("holdpoint session bind"), "{before}");
    let metadata = "curl -sS -m 20 -H Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    let mut placeholders = vec![runner.run(metadata)];

    for number in ["7", "8"] {
        let subject = format!("repo:example/shop:job:{number}");
        scene.ci.hand_out(&scene.world.issuer.token_for(&subject));
        let ran = runner.job(&format!("{}\n{}\n{metadata}", call(), poll()));
        assert!(ran.contains("bound 0"), "{ran}");
        assert!(ran.contains(&subject), "{ran}");
        assert!(ran.contains("staging-db"), "{ran}");
        assert_eq!(ran.matches("status 200").count(), 2, "{ran}");
        assert!(ran.contains("unbound 0"), "{ran}");
        placeholders.push(ran);
        let after = runner.run(&call());
        assert!(after.contains("status 403"), "{after}");
    }
    let mut tokens: Vec<_> = placeholders
        .iter()
        .map(|text| text.split("ya29.").nth(1).expect("a placeholder")[..30].to_owned())
        .collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "each session has a placeholder of its own");

    let asked = scene.ci.asked();
    let for_holdpoint = |path: &&String| path.contains("audience=holdpoint");
    assert_eq!(asked.iter().filter(for_holdpoint).count(), 2, "{asked:?}");
    assert_recorded(&scene);
    runner.stop();
}

fn assert_recorded(scene: &Scene) {
    let all = sessions(&scene.world).expect("a list");
    let (jobs, own): (Vec<_>, Vec<_>) = all.iter().partition(|it| !it["within"].is_null());
    assert_eq!((jobs.len(), own.len()), (2, 1), "{all:#?}");
    let own = own[0];
    assert_eq!(own["principal"], "holdpoint:service#runner");
    assert_eq!(own["service"], "runner");
    assert_eq!(own["live"], true);
    for (job, number) in jobs.iter().zip(["8", "7"]) {
        assert_eq!(job["service"], "runner");
        assert_eq!(job["within"], own["id"]);
        assert_eq!(job["live"], false);
        let principal = job["principal"].as_str().expect("text");
        let expected = format!("#repo:example/shop:job:{number}");
        assert!(principal.ends_with(&expected), "{principal}");
        let events = events(&scene.world, session_id(job)).expect("events");
        let done = |action: &str| {
            let is_it = |it: &&Value| it["operation"]["action"] == action;
            events.iter().filter(is_it).count()
        };
        assert_eq!(done("sql.instances.list"), 1, "{events:#?}");
        assert!(done("net.connect") >= 1, "{events:#?}");
    }
    let events = events(&scene.world, session_id(own)).expect("events");
    let verdicts = events
        .iter()
        .filter(|it| it["operation"]["action"] == "sql.instances.list");
    let verdicts: Vec<_> = verdicts
        .map(|it| it["decision"]["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["deny", "deny", "deny"]);
}

#[test]
fn tokens_that_do_not_count_bind_nothing() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    for flaw in Flaw::ALL {
        scene.ci.hand_out(&scene.world.issuer.flawed(flaw));
        let ran = runner.job(&call());
        assert!(ran.contains("bound 1"), "{flaw:?}: {ran}");
        assert!(ran.contains("status 403"), "{flaw:?}: {ran}");
    }
    let once = scene.world.issuer.token();
    scene.ci.hand_out(&once);
    let ran = runner.job(&call());
    assert!(
        ran.contains("bound 0") && ran.contains("status 200"),
        "{ran}"
    );
    let replayed = runner.job(&call());
    assert!(
        replayed.contains("bound 1") && replayed.contains("used already"),
        "{replayed}"
    );
    assert!(replayed.contains("status 403"), "{replayed}");
    assert_eq!(scene.jobs().len(), 1);
    assert!(
        scene.world.arrivals().len() == 1,
        "{:?}",
        scene.world.arrivals()
    );
    runner.stop();
}

#[test]
fn a_token_that_does_not_count_unbinds_what_was_bound() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{}", call()));
    assert!(ran.contains("status 200"), "{ran}");
    scene
        .ci
        .hand_out(&scene.world.issuer.flawed(Flaw::WrongAudience));
    let ran = runner.run(&format!("{STARTED}\n{}", call()));
    assert!(
        ran.contains("bound 1") && ran.contains("status 403"),
        "{ran}"
    );
    runner.stop();
}

#[test]
fn a_job_without_a_token_runs_unbound() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    scene.ci.hand_out(&scene.world.issuer.token());
    let _ = runner.run(STARTED);
    let ran = runner.run(&format!(
        "sh job-started.sh; echo bound $?\n{}\n{}",
        call(),
        poll()
    ));
    assert!(
        ran.contains("bound 0") && ran.contains("no ID token"),
        "{ran}"
    );
    assert!(
        ran.contains("status 403") && ran.contains("status 200"),
        "{ran}"
    );
    assert!(scene.jobs().iter().all(|job| job["live"] == false));
    runner.stop();
}

#[test]
fn gitlabs_token_is_taken_from_its_variable() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    let token = scene.world.issuer.token();
    let bind = format!("HOLDPOINT_TOKEN={token} sh job-started.sh; echo bound $?");
    let ran = runner.run(&format!("{bind}\n{}", call()));
    assert!(
        ran.contains("bound 0") && ran.contains("status 200"),
        "{ran}"
    );
    let program = runner_home(&scene, "holdpoint");
    let program = program.display();
    let other = scene.world.issuer.token();
    let bind =
        format!("MINE={other} {program} session bind --token-env MINE; {program} session show");
    let ran = runner.run(&bind);
    assert_eq!(ran.matches("a job of runner").count(), 2, "{ran}");
    runner.stop();
}

/// Leaves a process running that has nothing to do with the job any more, but that it is alive.
const LEAVE: &str = "rm -f beat
setsid sh -c 'while :; do date +%s%N >beat; sleep 0.02; done' >/dev/null 2>&1 &
while [ ! -s beat ]; do sleep 0.01; done";

fn beats(scene: &Scene) -> bool {
    beats_within(scene, Duration::from_secs(10))
}

fn is_dead(scene: &Scene) -> bool {
    !beats_within(scene, Duration::from_millis(500))
}

fn beats_within(scene: &Scene, time: Duration) -> bool {
    let beat = || fs::read_to_string(runner_home(scene, "beat")).unwrap_or_default();
    let (before, started) = (beat(), Instant::now());
    while started.elapsed() < time {
        if beat() != before {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn what_a_job_leaves_running_does_not_become_the_next_jobs() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    // Ended when the job is unbound ...
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{LEAVE}"));
    assert!(ran.contains("bound 0"), "{ran}");
    assert!(beats(&scene), "it has to run before it can be ended");
    let _ = runner.run(COMPLETED);
    assert!(is_dead(&scene), "it runs on after its job was unbound");
    // ... and when it never was and the next one is bound.
    scene.ci.hand_out(&scene.world.issuer.token());
    let _ = runner.run(&format!("{STARTED}\n{LEAVE}"));
    assert!(beats(&scene), "it has to run before it can be ended");
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{}", call()));
    assert!(
        ran.contains("bound 0") && ran.contains("status 200"),
        "{ran}"
    );
    assert!(is_dead(&scene), "it runs on in the next job");
    runner.stop();
}

/// The home of the only runner.
fn runner_home(scene: &Scene, file: &str) -> PathBuf {
    let homes = fs::read_dir(scene.world.dir()).expect("the world's directory");
    let mut homes = homes.flatten().map(|entry| entry.path());
    let home = homes.find(|path| path.join("runner.sh").exists());
    home.expect("a runner's home").join(file)
}

#[test]
fn connections_end_with_their_session_except_the_runners_own() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    let bundle = "$SSL_CERT_FILE";
    let google = "sqladmin.googleapis.com /sql/v1beta4/projects/lab-project/instances";
    let keep = format!(
        "python3 keep_open.py {google} {bundle} google.log &
         python3 keep_open.py {} /poll ci.pem ci.log &
         while [ ! -s google.log ] || [ ! -s ci.log ]; do sleep 0.01; done",
        ci::HOST
    );
    let _ = runner.run(&keep);
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(STARTED);
    assert!(ran.contains("bound 0"), "{ran}");
    std::thread::sleep(Duration::from_millis(300));
    let log = |name| fs::read_to_string(runner_home(&scene, name)).expect("a log");
    let google = log("google.log");
    assert!(google.starts_with("403\n"), "{google}");
    assert!(!google.contains("200"), "{google}");
    assert!(google.contains("closed"), "{google}");
    let before = log("ci.log");
    assert!(
        before.starts_with("200\n") && !before.contains("closed"),
        "{before}"
    );
    let _ = runner.run(COMPLETED);
    std::thread::sleep(Duration::from_millis(300));
    let after = log("ci.log");
    assert!(
        after.len() > before.len() && !after.contains("closed"),
        "{after}"
    );
    runner.stop();
}

#[test]
fn a_service_is_its_own_user_in_its_own_unit() {
    let scene = Scene::start();
    for (service, why) in [
        ("elsewhere", "opened by the user daemon"),
        ("in-a-unit", "opened in the unit actions.runner.*"),
        ("unheard-of", "there is no service"),
    ] {
        let ran = scene
            .world
            .sandbox()
            .service(service)
            .run(&["true"])
            .failed();
        assert!(ran.says(why), "{service}: {ran}");
    }
    let ran = scene
        .world
        .sandbox()
        .service("runner")
        .user(1)
        .run(&["true"])
        .failed();
    assert!(ran.says("opened by the user nobody"), "{ran}");
    assert!(sessions(&scene.world).expect("a list").is_empty());
}

#[test]
fn a_session_by_token_stays_what_it_is() {
    let scene = Scene::start();
    let agent = scene.world.sandbox();
    let program = program(&scene.world, &agent);
    let script = format!(
        "{program} session show; {program} session unbind; HOLDPOINT_TOKEN={} {program} session bind",
        scene.world.issuer.token_for("repo:somebody/else")
    );
    let ran = agent.run(&["sh", "-c", &script]).failed();
    assert!(ran.stdout.contains(SUBJECT), "{ran}");
    assert_eq!(
        ran.stderr.matches("no sandbox of a service").count(),
        2,
        "{ran}"
    );
    assert_eq!(sessions(&scene.world).expect("a list").len(), 1);
    // Outside of all of them there is nobody to ask.
    let outside = scene.world.holdpoint(&[]).get_program().to_owned();
    let outside = std::process::Command::new(outside)
        .args(["session", "show"])
        .output();
    let outside = outside.expect("it runs");
    let complaint = String::from_utf8_lossy(&outside.stderr).into_owned();
    assert!(
        !outside.status.success() && complaint.contains("in a session"),
        "{complaint}"
    );
}

#[test]
fn an_instance_is_who_its_metadata_server_says() {
    let services = r#"
[[service]]
name = "runner"
user = "nobody"
hosts = ["ci.example"]
identity = { from = "gce", issuer = "ISSUER", address = "METADATA" }
"#;
    let scene = Scene::with(services, Settings::default());
    let issuer = &scene.world.issuer;
    for flaw in [
        Flaw::WrongAudience,
        Flaw::Expired,
        Flaw::AnotherKey,
        Flaw::Empty,
    ] {
        scene.ci.hand_out(&issuer.flawed(flaw));
        let ran = scene
            .world
            .sandbox()
            .service("runner")
            .run(&["true"])
            .failed();
        assert!(
            ran.says("which instance this is cannot be told"),
            "{flaw:?}: {ran}"
        );
    }
    let instance = json!({"sub": "1234567", "email": "runner@lab-project.iam.gserviceaccount.com",
        "google": {"compute_engine": {"instance_name": "runner-7", "project_id": "lab-project"}}});
    scene.ci.hand_out(&issuer.token_with(instance));
    let mut runner = scene.runner();
    let polled = runner.run(&poll());
    assert!(polled.contains("status 200"), "{polled}");
    let refused = runner.run(&call());
    assert!(refused.contains("status 403"), "{refused}");
    let all = sessions(&scene.world).expect("a list");
    let events = events(&scene.world, session_id(&all[0])).expect("events");
    let principal = &events[0]["principal"];
    assert_eq!(principal["subject"], "1234567");
    let claims = principal["claims"].to_string();
    for (name, value) in [
        ("google.compute_engine.instance_name", "runner-7"),
        ("email", "runner@lab-project"),
    ] {
        assert!(claims.contains(name) && claims.contains(value), "{claims}");
    }
    // It has no issuer of jobs.
    let bind = format!(
        "HOLDPOINT_TOKEN={} sh job-started.sh; echo bound $?",
        issuer.token()
    );
    let ran = runner.run(&bind);
    assert!(ran.contains("bound 1"), "{ran}");
    runner.stop();
}

#[test]
fn a_job_has_the_limit_of_a_session_and_its_runner_has_not() {
    let settings = Settings {
        max_seconds: Some(3),
        ..Settings::default()
    };
    let scene = Scene::with(SERVICES, settings);
    let mut runner = scene.runner();
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{}\nsleep 4\n{}", call(), call()));
    assert!(
        ran.contains("status 200") && ran.contains("status 403"),
        "{ran}"
    );
    let jobs = scene.jobs();
    assert_eq!(
        jobs[0]["close_reason"],
        "its time was up (session.max_seconds)"
    );
    let polled = runner.run(&poll());
    assert!(polled.contains("status 200"), "{polled}");
    runner.stop();
}

#[test]
fn a_job_ends_with_its_runner() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    scene.ci.hand_out(&scene.world.issuer.token());
    let _ = runner.run(STARTED);
    assert_eq!(scene.jobs()[0]["live"], true);
    runner.stop();
    let started = Instant::now();
    while scene.jobs()[0]["live"] == true {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "it is bound to nothing"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(scene.jobs()[0]["close_reason"], "its processes ended");
}

#[test]
fn a_runner_outlives_its_daemon_and_its_job_is_unbound_then() {
    let scene = Scene::start();
    let mut runner = scene.runner();
    let before = scene.world.issuer.token();
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{LEAVE}"));
    assert!(ran.contains("bound 0"), "{ran}");
    // Tokens tell the second they were issued in.
    std::thread::sleep(Duration::from_millis(1100));
    scene.world.kill_daemon().expect("a daemon");
    scene.world.start_daemon().expect("another");
    let jobs = scene.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["live"], false);
    let ran = runner.run(&format!("{}\n{}", call(), poll()));
    assert!(
        ran.contains("status 403") && ran.contains("status 200"),
        "{ran}"
    );
    assert!(beats(&scene), "it has to run before it can be ended");
    // What was issued to the daemon before may have been used with it.
    scene.ci.hand_out(&before);
    let ran = runner.run(STARTED);
    assert!(
        ran.contains("bound 1") && ran.contains("before the daemon was started"),
        "{ran}"
    );
    assert!(is_dead(&scene), "the shim has forgotten what is the job's");
    scene.ci.hand_out(&scene.world.issuer.token());
    let ran = runner.run(&format!("{STARTED}\n{}", call()));
    assert!(
        ran.contains("bound 0") && ran.contains("status 200"),
        "{ran}"
    );
    runner.stop();
}

#[test]
fn a_unit_may_have_the_journals_socket_for_its_output() {
    let scene = Scene::start();
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let near = OwnedFd::from(near);
    let script = "echo out; echo err >&2; seq 20000; ls -l /proc/self/fd/1";
    let mut run = scene
        .world
        .sandbox()
        .service("runner")
        .command(&["sh", "-c", script]);
    run.stdout(near.try_clone().expect("a copy"))
        .stderr(near)
        .stdin(Stdio::null());
    let mut child = run.spawn().expect("it starts");
    drop(run);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut far, &mut text).expect("text");
    assert!(child.wait().expect("it ends").success(), "{text}");
    for part in ["out\n", "err\n", "\n20000\n", "pipe:"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}
