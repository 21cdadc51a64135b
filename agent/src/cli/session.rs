//! `holdpoint session`: inside a sandbox, asks whom it acts for, and binds a runner's job. What a job hook calls.

mod token;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};
use zeroize::Zeroizing;

use crate::binding::{ADDRESS, NAME, SessionView};

/// The daemon may have to fetch the issuer's keys, and to end what the job before left running.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: usize = 64 * 1024;

/// The session that the sandbox around this process acts for.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows whom the sandbox acts for.
    Show,
    /// Binds a job: from now on the sandbox acts for whom the job's ID token names.
    ///
    /// Without an option the token is HOLDPOINT_TOKEN's (GitLab: `id_tokens`), or else GitHub is asked for one
    /// (ACTIONS_ID_TOKEN_REQUEST_URL, which jobs with `id-token: write` have).
    Bind {
        /// File with the job's ID token.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Variable with the job's ID token.
        #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
        token_env: Option<String>,
        /// A job that has no token is no failure: it stays unbound, and reaches no Google API.
        #[arg(long)]
        optional: bool,
    },
    /// Unbinds the job, and ends what it left running.
    Unbind,
}

/// Runs the command.
///
/// # Errors
/// When this is no sandbox, or the daemon refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        in_a_sandbox(&std::fs::read_to_string("/proc/net/dev")?),
        "this is for processes in a session, and this is none: see `holdpoint run`, and `holdpoint sessions` for all there are"
    );
    let view = match &args.command {
        Command::Show => ask(Method::GET, "/v1/session", Bytes::new()).await?,
        Command::Unbind => unbind().await?,
        Command::Bind {
            token_file,
            token_env,
            optional,
        } => {
            let source = token::Source::choose(token_file.as_deref(), token_env.as_deref());
            match source {
                Some(source) => bind(&source).await?,
                None if *optional => {
                    eprintln!(
                        "holdpoint: this job has no ID token, so no session is bound to it: it reaches the runner's own hosts only"
                    );
                    unbind().await?
                }
                None => bail!(
                    "this job has no ID token: set HOLDPOINT_TOKEN (GitLab: id_tokens), or give it the permission `id-token: write` (GitHub)"
                ),
            }
        }
    };
    print(&view);
    Ok(())
}

async fn unbind() -> anyhow::Result<SessionView> {
    ask(Method::POST, "/v1/session/unbind", Bytes::new()).await
}

async fn bind(source: &token::Source<'_>) -> anyhow::Result<SessionView> {
    // Who was bound before must not stay so because this job's token is not to be had.
    let audience = unbind().await?.audience;
    let audience =
        audience.context("no jobs can be bound here: the [[service]] has no job_issuer")?;
    let token: Zeroizing<String> = source.token(&audience).await?;
    let body = Bytes::copy_from_slice(token.as_bytes());
    ask(Method::POST, "/v1/session/bind", body).await
}

/// Nothing but loopback is in a session's network. What is sent to its daemon elsewhere would go to strangers.
fn in_a_sandbox(proc_net_dev: &str) -> bool {
    let mut interfaces = proc_net_dev
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    interfaces.all(|name| name == "lo")
}

async fn ask(method: Method, path: &str, body: Bytes) -> anyhow::Result<SessionView> {
    let asked = timeout(PATIENCE, exchange(method, path, body)).await;
    let (status, body) = asked.context("the Holdpoint daemon did not answer in 30 s")??;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body)
            .context("the answer is not understood: install the same version everywhere");
    }
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    match serde_json::from_slice::<Refused>(&body) {
        Ok(refused) => bail!(refused.error),
        Err(_) => bail!("the Holdpoint daemon answered {status}"),
    }
}

async fn exchange(method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(SocketAddr::from((ADDRESS, 80))).await;
    let stream = stream.context("cannot reach the Holdpoint daemon; is it running?")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, NAME);
    let answer = sender.send_request(request.body(Full::new(body))?).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?;
    Ok((head.status, body.to_bytes()))
}

fn print(view: &SessionView) {
    let SessionView {
        session,
        principal,
        service,
        bound,
        ..
    } = view;
    let of = service.as_ref().map_or_else(String::new, |name| {
        let what = if *bound { "a job of" } else { "the service" };
        format!(" ({what} {name})")
    });
    println!("session {session} for {principal}{of}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_more_than_loopback_is_no_sandbox() {
        let head = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n";
        assert!(in_a_sandbox(&format!("{head}    lo: 0 0 0\n")));
        assert!(!in_a_sandbox(&format!(
            "{head}    lo: 0 0 0\n  eth0: 0 0 0\n"
        )));
    }
}
