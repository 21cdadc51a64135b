//! Developers' tools work in a session as they do outside.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use holdpoint_tests::{
    host, python,
    sandbox::{Ran, Sandbox},
    world::{INSTANCES_URL, World},
};

/// Runs a script with `set -e` in a session and returns what it prints.
fn script(agent: &Sandbox<'_>, script: &str) -> Ran {
    agent
        .clone()
        .limit(Duration::from_secs(300))
        .run(&["bash", "-euc", script])
        .succeeded()
}

fn need(program: &str, package: &str) {
    host::require_program(program, package).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn git_commits_and_clones() {
    need("git", "git");
    let world = World::start();
    let agent = world.sandbox();
    let ran = script(
        &agent,
        "git init -q work && cd work && git config user.email a@example.com && git config user.name a
         for n in $(seq 50); do echo $n > file-$n; done; git add . && git commit -qm first
         git init -q --bare --shared=group ../bare.git && git push -q ../bare.git HEAD:refs/heads/main
         git clone -q \"file://$HOME/bare.git\" -b main ../clone && git -C ../clone gc -q && git -C ../clone log --oneline
         ls ../clone | wc -l",
    );
    assert!(
        ran.stdout.contains("first") && ran.stdout.contains("50"),
        "{ran}"
    );
}

#[test]
fn npm_installs_and_runs() {
    need("npm", "npm");
    let world = World::start();
    let ran = script(
        &world.sandbox(),
        r#"mkdir greet use && cd greet
           echo '{"name":"greet","version":"1.0.0","bin":{"greet":"greet.js"},"scripts":{"prepack":"node -e 0"}}' > package.json
           printf '#!/usr/bin/env node\nconsole.log("greetings from", process.version)\n' > greet.js
           npm pack --silent && cd ../use && npm init -y >/dev/null
           npm install --silent --offline --no-audit --no-fund ../greet/greet-1.0.0.tgz && npx --offline greet"#,
    );
    assert!(ran.stdout.contains("greetings from v"), "{ran}");
}

#[test]
fn pip_installs_into_a_venv() {
    need("python3", "python3 and python3-venv");
    let world = World::start();
    let agent = world.sandbox();
    let _ = agent.python("wheel.py", &[]).succeeded();
    let ran = script(
        &agent,
        "/usr/bin/python3 -m venv venv && venv/bin/pip install --quiet --no-index ./demo-1.0-py3-none-any.whl && venv/bin/demo",
    );
    assert!(ran.stdout.contains("demo runs"), "{ran}");
}

#[test]
fn pytest_runs() {
    let world = World::start();
    let agent = world.sandbox();
    let packages = python::packages("pytest", &["pytest", "pytest-xdist"], agent.home());
    let packages = packages.unwrap_or_else(|error| panic!("{error:#}"));
    let agent = agent.env("PYTHONPATH", packages);
    // Temporary directories, other processes, shared memory, sockets between them.
    let _ = agent.file(
        "test_all.py",
        "import multiprocessing, multiprocessing.shared_memory, socket\n\
         def square(n):\n    return n * n\n\
         def test_files(tmp_path):\n    (tmp_path / 'x').write_text('x')\n\
         def test_pool():\n    with multiprocessing.Pool(2) as pool:\n        assert pool.map(square, range(4)) == [0, 1, 4, 9]\n\
         def test_memory():\n    block = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)\n    block.buf[0] = 1\n    block.close()\n    block.unlink()\n\
         def test_sockets(tmp_path):\n    server = socket.socket(socket.AF_UNIX)\n    server.bind(str(tmp_path / 's'))\n    server.listen()\n    socket.socket(socket.AF_UNIX).connect(str(tmp_path / 's'))\n",
    );
    let ran = script(&agent, "/usr/bin/python3 -m pytest -q -n 2 test_all.py");
    assert!(ran.stdout.contains("4 passed"), "{ran}");
}

#[test]
fn c_is_built_in_parallel() {
    need("gcc", "gcc");
    need("make", "make");
    let world = World::start();
    let ran = script(
        &world.sandbox(),
        "for n in $(seq 30); do echo \"int f$n(void) { return $n; }\" > f$n.c; done
         echo '#include <stdio.h>' > main.c; echo 'int f30(void); int main(void) { printf(\"%d\\n\", f30()); }' >> main.c
         printf 'prog: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\t$(CC) -pipe -o $@ $^\\n' > Makefile
         make -s -j8 && ./prog",
    );
    assert_eq!(ran.stdout.trim(), "30", "{ran}");
}

#[test]
fn cargo_builds_and_tests() {
    let world = World::start();
    let agent = world.sandbox();
    let toolchain = agent.home().join("rust");
    copy_toolchain(&toolchain);
    let ran = script(
        &agent.clone().env(
            "PATH",
            format!(
                "{}/bin:{}",
                toolchain.display(),
                holdpoint_tests::sandbox::PATH
            ),
        ),
        "cargo new -q --vcs none demo && cd demo && cargo build -q --offline && cargo test -q --offline && cargo run -q --offline",
    );
    assert!(ran.stdout.contains("Hello, world!"), "{ran}");
}

/// The toolchain that builds this is in its user's home, as a rule.
fn copy_toolchain(to: &Path) {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(asked.expect("rustc runs").stdout).expect("UTF-8");
    std::fs::create_dir(to).expect("a directory");
    for part in ["bin", "lib"] {
        copy(&Path::new(sysroot.trim()).join(part), to);
    }
}

/// By links, which cost nothing; on another file system by content.
fn copy(from: &Path, to: &Path) {
    let copied = ["-al", "-a"].iter().any(|how| {
        let mut copy = Command::new("cp");
        let status = copy
            .arg(how)
            .arg(from)
            .arg(to)
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    });
    assert!(copied, "{} cannot be copied", from.display());
}

#[test]
fn go_builds_and_tests() {
    need("go", "golang-go");
    let world = World::start();
    let ran = script(
        &world.sandbox(),
        r#"mkdir demo && cd demo && go mod init example.com/demo 2>/dev/null
           printf 'package main\nimport ("fmt"; "net/http")\nfunc main() { fmt.Println("go runs", http.StatusOK) }\n' > main.go
           printf 'package main\nimport "testing"\nfunc TestDir(t *testing.T) { t.TempDir() }\n' > main_test.go
           go build -o demo . && ./demo && go test ./..."#,
    );
    assert!(
        ran.stdout.contains("go runs 200") && ran.stdout.contains("ok"),
        "{ran}"
    );
}

#[test]
fn java_compiles_and_trusts_the_session_and_nothing_else_does() {
    need("javac", "openjdk-17-jdk-headless");
    let world = World::start();
    let agent = world.sandbox();
    let _ = agent.file("Ask.java", include_str!("clients/Ask.java"));
    let ran = script(
        &agent,
        &format!("javac Ask.java && java Ask {INSTANCES_URL}"),
    );
    assert!(
        ran.stdout.contains("200") && ran.stdout.contains("staging-db"),
        "{ran}"
    );

    // With the host's own truststore it does not: what makes the difference is the one put over it.
    let host = ["/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts"]
        .into_iter()
        .find(|file| Path::new(file).exists())
        .expect("needs the system's truststore for Java: install ca-certificates-java");
    let copy = agent.file("host.jks", std::fs::read(host).expect("reads"));
    let store = format!("-Djavax.net.ssl.trustStore={}", copy.display());
    let ran = agent.run(&["java", &store, "Ask", INSTANCES_URL]).failed();
    assert!(
        ran.stderr
            .contains("unable to find valid certification path"),
        "{ran}"
    );

    let ran = script(
        &agent,
        "keytool -list -cacerts -storepass changeit | grep -c trustedCertEntry",
    );
    assert!(
        ran.stdout
            .trim()
            .parse::<u32>()
            .is_ok_and(|count| count > 50),
        "{ran}"
    );
}

/// A JDK of the caller's own, somewhere in its home.
#[test]
fn java_in_a_home_trusts_the_session() {
    need("javac", "openjdk-17-jdk-headless");
    let world = World::start();
    let agent = world.sandbox();
    let java = std::fs::canonicalize("/usr/bin/java").expect("java is there");
    let java = java.ancestors().nth(2).expect("a JDK").to_owned();
    let home = agent.home().join("jdk");
    copy(&java, &home);
    let truststore = home.join("lib/security/cacerts");
    let content = std::fs::read(&truststore).expect("a truststore");
    std::fs::remove_file(&truststore).expect("removes the link to the system's");
    std::fs::write(&truststore, content).expect("writes");
    let _ = agent.file("Ask.java", include_str!("clients/Ask.java"));
    let agent = agent.clone().env("JAVA_HOME", &home);
    let ran = script(
        &agent,
        &format!("$JAVA_HOME/bin/java Ask.java {INSTANCES_URL}"),
    );
    assert!(ran.stdout.contains("staging-db"), "{ran}");
}

/// Its own sandbox needs user namespaces, which sessions cannot make.
#[test]
fn headless_chromium_runs_without_its_sandbox() {
    need("chromium-headless-shell", "chromium-headless-shell");
    need("certutil", "libnss3-tools");
    let world = World::start();
    let agent = world.sandbox();
    let page = agent.file(
        "page.html",
        "<script>document.title = 6 * 7; document.write(document.title)</script>",
    );
    let chromium = "chromium-headless-shell --no-sandbox --disable-gpu";
    let ran = script(
        &agent,
        &format!("{chromium} --dump-dom file://{}", page.display()),
    );
    assert!(ran.stdout.contains("42"), "{ran}");
    // It has roots of its own; what a user adds is in its NSS database. Holdpoint's authority is the bundle's last.
    let trust = r#"mkdir -p ~/.pki/nssdb; certutil -d sql:$HOME/.pki/nssdb -N --empty-password
        tac $SSL_CERT_FILE | sed '/BEGIN/q' | tac | certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n holdpoint"#;
    let ran = script(
        &agent,
        &format!("{trust}; {chromium} --dump-dom {INSTANCES_URL}"),
    );
    assert!(ran.stdout.contains("staging-db"), "{ran}");
}
