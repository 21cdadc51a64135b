//! The start-up script for Compute Engine, in a small world of its own: a network with nothing but a metadata server and a bucket,
//! an /etc of its own, and stand-ins for apt-get and systemctl.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use holdpoint_tests::{
    files::{holdpoint_binary, repository},
    host,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const PACKAGE: &[u8] = b"what stands for a package";

/// The instance, as `tests/clients/gce_instance.sh` makes it.
struct Instance {
    dir: tempfile::TempDir,
    attributes: Value,
}

impl Instance {
    fn new() -> Self {
        for (program, package) in [
            ("unshare", "util-linux"),
            ("ip", "iproute2"),
            ("openssl", "openssl"),
            ("curl", "curl"),
        ] {
            host::require_program(program, package).unwrap_or_else(|error| panic!("{error}"));
        }
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("a directory");
        for name in ["apt-get", "systemctl"] {
            let stub = format!(
                "#!/bin/sh\necho {name} \"$@\" >>{}/done\n",
                dir.path().display()
            );
            fs::write(bin.join(name), stub).expect("a stub");
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(bin.join(name), open).expect("our own file");
        }
        let binary = holdpoint_binary().unwrap_or_else(|error| panic!("{error:#}"));
        symlink(binary, bin.join("holdpoint")).expect("a link");
        fs::write(dir.path().join("package"), PACKAGE).expect("a package");
        let attributes = json!({
            "holdpoint-package": "gs://bucket/a dir/holdpoint.deb",
            "holdpoint-package-sha256": hex::encode(Sha256::digest(PACKAGE)),
            "holdpoint-config": "# the configuration\n",
            "holdpoint-policy": "@id(\"more\") permit(principal, action in Action::\"net\", resource in Host::\"a.example\");\n",
            "holdpoint-dropins": "actions.runner.a.b.service=github-actions-runner",
        });
        Self { dir, attributes }
    }

    fn boot(&self) -> Output {
        let attributes = self.attributes.to_string();
        fs::write(self.path("attributes.json"), attributes).expect("a file");
        Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "sh"])
            .arg(repository().join("tests/clients/gce_instance.sh"))
            .arg(self.dir.path())
            .arg(repository())
            .output()
            .expect("unshare runs")
    }

    fn boots(&self) -> String {
        let output = self.boot();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        text
    }

    fn fails(&self, why: &str) {
        let output = self.boot();
        let text = text(&output);
        assert!(!output.status.success() && text.contains(why), "{text}");
        assert!(!self.done().contains("apt-get"), "{}", self.done());
    }

    /// What apt-get and systemctl were asked for.
    fn done(&self) -> String {
        fs::read_to_string(self.path("done")).unwrap_or_default()
    }

    /// A file below /etc, as the script has left it.
    fn etc(&self, path: &str) -> PathBuf {
        self.path("etc").join(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn it_installs_what_the_metadata_name_and_starts_the_runner_inside() {
    let instance = Instance::new();
    let _ = instance.boots();
    assert_eq!(
        read(&instance.etc("holdpoint/holdpoint.toml")),
        "# the configuration\n"
    );
    assert!(read(&instance.etc("holdpoint/policies/90-instance.cedar")).contains("a.example"));
    let dropin = instance.etc("systemd/system/actions.runner.a.b.service.d/holdpoint.conf");
    let target = fs::read_link(dropin).expect("a link");
    assert_eq!(
        target,
        Path::new("/usr/share/holdpoint/dropins/github-actions-runner.conf")
    );
    let done = instance.done();
    let done: Vec<&str> = done.lines().collect();
    assert!(done[0].starts_with("apt-get install -y -q /"), "{done:?}");
    assert_eq!(
        done[1..],
        [
            "systemctl daemon-reload",
            "systemctl restart holdpoint.service",
            "systemctl restart actions.runner.a.b.service"
        ]
    );
    // The next boot finds it all in place.
    let again = instance.boots();
    assert!(again.contains("installed already"), "{again}");
    assert_eq!(instance.done().matches("apt-get").count(), 1);
}

#[test]
fn another_package_is_not_installed() {
    let mut instance = Instance::new();
    fs::write(instance.path("package"), b"somebody else's").expect("a file");
    instance.fails("nothing is installed");
    instance.attributes["holdpoint-package"] = "http://bucket.example/holdpoint.deb".into();
    instance.fails("neither gs://");
    instance.attributes["holdpoint-package-sha256"] = "".into();
    instance.fails("not 64 hexadecimal digits");
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let mut instance = Instance::new();
    let config = instance.attributes["holdpoint-config"].take();
    instance.attributes = json!({"holdpoint-package": "gs://bucket/a dir/holdpoint.deb"});
    instance.fails("no attribute holdpoint-config");
    let mut instance = Instance::new();
    instance.attributes["holdpoint-config"] = config;
    instance.attributes["holdpoint-policy"] = "permit(principal".into();
    let output = instance.boot();
    assert!(!output.status.success(), "{}", text(&output));
    assert!(
        !instance
            .etc("holdpoint/policies/90-instance.cedar")
            .exists()
    );
    instance.attributes["holdpoint-policy"] = "".into();
    for wrong in [
        "../../x.service=plain-unit",
        "a.service=../x",
        "a.service=unheard-of",
    ] {
        instance.attributes["holdpoint-dropins"] = wrong.into();
        let output = instance.boot();
        let text = text(&output);
        assert!(
            !output.status.success() && text.contains("holdpoint-dropins"),
            "{text}"
        );
    }
}

#[test]
fn shellcheck_finds_nothing() {
    host::require_program("shellcheck", "shellcheck").unwrap_or_else(|error| panic!("{error}"));
    let systemd = repository().join("systemd");
    let mut scripts = vec![systemd.join("gce-startup.sh")];
    let hooks = fs::read_dir(systemd.join("hooks")).expect("hooks");
    scripts.extend(hooks.flatten().map(|entry| entry.path()));
    let output = Command::new("shellcheck")
        .args(scripts)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
}
