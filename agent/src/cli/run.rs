//! `holdpoint run`: a command in a new session.

use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    config::{self, Config},
    launch::client::{self, Ending, Invocation},
};

/// Exit code for Holdpoint's own failures and refusals.
const OWN_FAILURE: u8 = 125;
/// The variable a token is taken from when no file is named.
pub(super) const TOKEN_VARIABLE: &str = "HOLDPOINT_TOKEN";
/// Where the daemon listens when there is no configuration to be read.
const DEFAULT_SOCKET: &str = "/run/holdpoint/run.sock";
/// The most bytes of a token file. GitHub's tokens have 2 KB.
const TOKEN_LIMIT: u64 = 64 << 10;

/// Runs a command in a new session and exits as it does.
///
/// Exit codes: the command's; 128 + N when signal N killed it; 127 not found; 126 not executable; 125 when Holdpoint refuses or fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the OIDC token that says who the session acts for. Without it, HOLDPOINT_TOKEN is used.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Open the session of a service that the configuration names ([[service]]) instead: a CI runner's, which has no token.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    service: Option<String>,
    /// The configuration file that tells where the daemon listens.
    #[arg(long, value_name = "PATH", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// The daemon's socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Does it.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    let ending = match try_run(args) {
        Ok(ending) => ending,
        Err(error) => {
            eprintln!("holdpoint: {error:#}");
            Ending::Exited(OWN_FAILURE)
        }
    };
    ExitCode::from(ending.imitate())
}

fn try_run(args: Args) -> anyhow::Result<Ending> {
    client::run(Invocation {
        token: match args.service {
            Some(_) => None,
            None => Some(token(args.token_file.as_deref())?),
        },
        service: args.service,
        socket: socket(args.socket, args.config.as_deref())?,
        command: args.command,
    })
}

/// The token, from where it was named.
fn token(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let text = match file {
        Some(file) => read_token(file)
            .with_context(|| format!("cannot read the token file {}", file.display()))?,
        None => Zeroizing::new(std::env::var(TOKEN_VARIABLE).context(
            "no token: name a file with an OIDC token (--token-file FILE), or set HOLDPOINT_TOKEN",
        )?),
    };
    let token = Zeroizing::new(text.trim().to_owned());
    anyhow::ensure!(!token.is_empty(), "the token is empty");
    Ok(token)
}

pub(super) fn read_token(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_LIMIT as usize + 1));
    File::open(file)?
        .take(TOKEN_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    anyhow::ensure!(
        bytes.len() as u64 <= TOKEN_LIMIT,
        "it has more than {TOKEN_LIMIT} bytes"
    );
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|error| {
            error.into_bytes().zeroize();
            anyhow::anyhow!("it is not text")
        })
}

fn socket(socket: Option<PathBuf>, config: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(socket) = socket {
        return Ok(socket);
    }
    match config {
        Some(path) => Ok(Config::load(path)?.run_socket()),
        // The configuration need not be everybody's to read.
        None => Ok(Config::load(Path::new(config::DEFAULT_PATH))
            .map_or_else(|_| DEFAULT_SOCKET.into(), |config| config.run_socket())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_token_file_is_trimmed_and_bounded() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b" a.b.c\n").expect("writes");
        assert_eq!(token(Some(file.path())).expect("reads").as_str(), "a.b.c");
        file.write_all(&vec![b'x'; TOKEN_LIMIT as usize])
            .expect("writes");
        assert!(token(Some(file.path())).is_err());
        let empty = tempfile::NamedTempFile::new().expect("a file");
        assert!(token(Some(empty.path())).is_err());
    }

    #[test]
    fn a_named_socket_wins() {
        assert_eq!(
            socket(Some("/s".into()), None).expect("is named"),
            Path::new("/s")
        );
    }
}
