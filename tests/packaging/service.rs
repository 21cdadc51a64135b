//! The installed package in a container, with a stand-in Google and an issuer on the loopback they share.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use holdpoint_tests::{
    files::repository,
    issuer::{AUDIENCE, GROUPS_CLAIM, Issuer},
    stand_in::{ACCOUNT, PROJECT, StandIn, ZONE},
    world::INSTANCES_URL,
};
use tempfile::TempDir;

use crate::container::Container;

/// As an administrator would have it: the credential is systemd's to load.
const CREDENTIAL: &str =
    "[Service]\nLoadCredential=google-key.json:/etc/holdpoint/google-key.json\n";

/// A host with the package on it.
pub struct Service {
    pub container: Container,
    pub google: StandIn,
    pub issuer: Issuer,
    _dir: TempDir,
}

impl Service {
    /// Installed, and nothing else.
    pub fn installed() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let service = Self {
            container: Container::boot(),
            google: StandIn::start(dir.path()).expect("a stand-in Google"),
            issuer: Issuer::start().expect("an issuer"),
            _dir: dir,
        };
        let package = std::fs::read(package()).expect("the package was built");
        service.container.write("/root/it.deb", package);
        service.install();
        service
    }

    /// Installed, configured and started.
    pub fn started() -> Self {
        let service = Self::installed();
        service.configure();
        service.container.ok("systemctl start holdpoint");
        service
    }

    /// Installs the package, also over itself.
    pub fn install(&self) -> String {
        self.container.ok("dpkg -i /root/it.deb 2>&1")
    }

    /// What an administrator does before the first start.
    pub fn configure(&self) {
        let Self {
            container, google, ..
        } = self;
        let text = format!(
            "agents_cgroup = \"{}-agents\"\n\
             [[issuer]]\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\ngroups_claim = \"{GROUPS_CLAIM}\"\n\
             [reviewers.reviewers]\nunix_groups = [\"holdpoint-reviewers\"]\n\
             [google]\nproject = \"{PROJECT}\"\naccount = \"{ACCOUNT}\"\nzone = \"{ZONE}\"\n\
             [google.credential]\nfrom = \"service-account-key\"\nfile = \"${{CREDENTIALS_DIRECTORY}}/google-key.json\"\n\
             [upstream]\nca_file = \"/etc/holdpoint/ca.pem\"\n\
             [upstream.addresses]\n\"*.googleapis.com\" = \"{}\"\n",
            container.name,
            self.issuer.url(),
            google.address,
        );
        let read = |path: &Path| std::fs::read(path).expect("the stand-in's file");
        container.write("/etc/holdpoint/holdpoint.toml", text);
        container.write("/etc/holdpoint/ca.pem", read(&google.ca_file));
        container.write("/etc/holdpoint/google-key.json", read(&google.key_file));
        container.write(
            "/etc/systemd/system/holdpoint.service.d/credential.conf",
            CREDENTIAL,
        );
        container.ok("chmod 600 /etc/holdpoint/google-key.json && systemctl daemon-reload");
        container.ok("useradd --create-home --shell /bin/bash agent");
    }

    /// Adds to what [`Self::configure`] wrote: first more of `[upstream.addresses]`, then other tables.
    pub fn add_configuration(&self, text: &str) {
        let path = self.container.path("/etc/holdpoint/holdpoint.toml");
        let before = std::fs::read_to_string(path).expect("it was written");
        self.container
            .write("/etc/holdpoint/holdpoint.toml", before + text);
    }

    /// `holdpoint run` of a shell script, by an ordinary user, not yet started.
    pub fn session(&self, script: &str) -> Command {
        let container = &self.container;
        container.write("/home/agent/script", script);
        container.write("/home/agent/token", self.issuer.token());
        container.ok("chown agent: /home/agent/token && chmod 600 /home/agent/token");
        container.command(
            "cd /home/agent && exec runuser -u agent -- holdpoint run --token-file token -- sh -eu script",
        )
    }

    /// Runs a shell script in a session; what it printed, trimmed.
    pub fn in_session(&self, script: &str) -> String {
        let ran = self.session(script).output().expect("nsenter can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(
            ran.status.success(),
            "in a session, `{script}`: {}\n{}\n{}\n--- the journal\n{}",
            ran.status,
            text(&ran.stdout),
            text(&ran.stderr),
            self.container
                .ok("journalctl --no-pager --unit=holdpoint --lines=60"),
        );
        text(&ran.stdout)
    }

    /// A session reaches the stand-in, and nothing it should not.
    pub fn assert_serves(&self) {
        let before = self.arrivals();
        let answer = self.in_session(&format!("curl -sS --fail --max-time 60 {INSTANCES_URL}"));
        assert!(answer.contains("staging-db"), "{answer}");
        assert!(self.arrivals() > before);
    }

    /// How many requests the stand-in has seen.
    pub fn arrivals(&self) -> usize {
        let all = self.google.journal().arrivals();
        all.expect("the journal can be read").len()
    }

    /// A property of the unit (systemctl(1)).
    pub fn property(&self, name: &str) -> String {
        self.container.ok(&format!(
            "systemctl show --value --property={name} holdpoint"
        ))
    }
}

/// The package of the debug build, built once; `HOLDPOINT_PACKAGE` where nothing can be built.
pub fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| match std::env::var_os("HOLDPOINT_PACKAGE") {
        Some(package) => package.into(),
        None => build(&repository().join("target/test-cache/deb")),
    })
}

/// `cargo xtask dist`.
pub fn build(out: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "dist", "--debug", "--out"])
        .arg(out)
        .current_dir(repository())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo xtask dist: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout).expect("text");
    stdout.trim().into()
}
