//! An OIDC provider that nobody here wrote: oauth2-mock-server, from npm.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{files::repository, host};

const VERSION: &str = "8.2.3";

/// A running oauth2-mock-server, from npm: an issuer that nobody here wrote. It ends when dropped.
#[derive(Debug)]
pub struct MockServer {
    child: Child,
    /// Its `iss`.
    pub url: String,
}

impl MockServer {
    /// Starts it on a port of its choice.
    ///
    /// # Panics
    /// When npm cannot install it, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let program = install();
        let mut child = Command::new(program)
            .args(["-a", "localhost", "-p", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("oauth2-mock-server starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = stdout.lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.split_once("issuer is ")?.1.to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            url: url.expect("it says what its issuer is"),
        }
    }

    /// An ID token as its token endpoint gives them out.
    ///
    /// # Panics
    /// When it gives none.
    #[must_use]
    pub fn token(&self, audience: &str) -> String {
        let form = format!("grant_type=password&username=ci-run-7&client_id={audience}");
        let output = Command::new("curl")
            .args(["-sS", "--fail", "-d", &form, &format!("{}/token", self.url)])
            .output()
            .expect("curl runs");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["id_token"].as_str().expect("an ID token").to_owned()
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn install() -> PathBuf {
    host::require_program("npm", "npm").unwrap_or_else(|error| panic!("{error}"));
    let cache = repository().join("target/test-cache/oauth2-mock-server");
    let program = cache.join("node_modules/.bin/oauth2-mock-server");
    if !program.exists() {
        std::fs::create_dir_all(&cache).expect("target/ can be written");
        let package = format!("oauth2-mock-server@{VERSION}");
        let status = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&cache)
            .arg(package)
            .status();
        assert!(
            status.expect("npm runs").success(),
            "npm cannot install oauth2-mock-server"
        );
    }
    program
}
