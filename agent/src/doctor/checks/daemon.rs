//! The daemon, asked over its control socket.

use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::Finding;
use crate::{
    config::Config,
    control::{SessionList, client::Client},
};

/// What `GET /v1/status` says, if the daemon runs.
pub async fn check(config: &Config) -> (Option<Value>, Vec<Finding>) {
    const SUBJECT: &str = "daemon";
    let socket = config.control_socket();
    if UnixStream::connect(&socket).is_err() {
        let says = format!("it does not run: nobody listens on {}", socket.display());
        let advice = "start it (systemctl start holdpoint); what needs it was not looked at";
        return (None, vec![Finding::warn(SUBJECT, says, advice)]);
    }
    let client = Client::new(socket);
    let status: Value = match client.read("/v1/status").await {
        Ok(status) => status,
        Err(error) => {
            let advice = "look at its log (journalctl -u holdpoint) and start it again";
            let failed = Finding::fail(SUBJECT, format!("{error:#}"), advice);
            return (None, vec![failed]);
        }
    };
    let findings = vec![version(&status), record(&client).await];
    (Some(status), findings)
}

/// Who makes the sessions.
pub fn launcher(config: &Config) -> Finding {
    const SUBJECT: &str = "launcher";
    let socket = config.launcher_socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Finding::ok(SUBJECT, format!("it listens on {}", socket.display())),
        Err(_) => Finding::warn(
            SUBJECT,
            format!(
                "nobody listens on {}: the daemon starts one of its own, and sessions end with it",
                socket.display()
            ),
            "start it (systemctl enable --now holdpoint-launcher.socket): sessions outlive the daemon then",
        ),
    }
}

fn version(status: &Value) -> Finding {
    const SUBJECT: &str = "daemon";
    let own = env!("CARGO_PKG_VERSION");
    let running = status["version"]
        .as_str()
        .unwrap_or("of an unknown version");
    let sessions = &status["sessions"];
    if running == own {
        return Finding::ok(
            SUBJECT,
            format!("{running} runs; {sessions} sessions are open"),
        );
    }
    Finding::warn(
        SUBJECT,
        format!("{running} runs, and this program is {own}"),
        "restart it, so that both are of the same version",
    )
}

/// The daemon verified the chain when it opened the record, and reads it now.
async fn record(client: &Client) -> Finding {
    const SUBJECT: &str = "record";
    let read: anyhow::Result<SessionList> = client.read("/v1/sessions?limit=1").await;
    match read {
        Ok(_) => Finding::ok(
            SUBJECT,
            "the daemon has opened and verified it, and reads it",
        ),
        Err(error) => Finding::fail(
            SUBJECT,
            format!("the daemon cannot read it: {error:#}"),
            "look at its log, and at the disk of state_dir",
        ),
    }
}
