//! `holdpoint login`: a reviewer shows who they are.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::{
    approvals::screen::{self, safe},
    run::read_token,
};
use crate::control::{LoggedIn, LoggedOut, client::Connect};

/// Show an OIDC token of your own, for reviewer groups that are made of people whom an issuer knows. It counts until the
/// token expires, for your user on this host, and once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the token; /dev/stdin reads it from a pipe.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or does not take the token, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let file = &args.token_file;
    let token = read_token(file)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    let body = json!({ "token": token.trim() });
    let logged_in: LoggedIn = args.connect.client()?.post("/v1/login", &body).await?;
    let groups: Vec<_> = logged_in.groups.iter().map(String::as_str).collect();
    let groups = match groups.as_slice() {
        [] => "no reviewer group".to_owned(),
        some => format!("reviewer of {}", some.join(", ")),
    };
    screen::print(&format!(
        "You are {} until {}: {}\n",
        safe(&logged_in.person),
        logged_in.until,
        safe(&groups)
    ))
}

/// End your login: from now on you answer as your Unix user alone, until you log in again.
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {
    #[command(flatten)]
    connect: Connect,
}

/// Runs `holdpoint logout`.
///
/// # Errors
/// When the daemon cannot be reached or does not record it.
pub async fn log_out(args: &LogoutArgs) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let logged_out: LoggedOut = client.post("/v1/logout", &json!({})).await?;
    screen::print(match logged_out.was_logged_in {
        true => "You are logged out.\n",
        false => "You were not logged in.\n",
    })
}
