//! The `holdpoint` program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use holdpoint::{
    cli,
    config::Config,
    containers, daemon, detach, doctor, kernel,
    launch::{
        self,
        launcher::{self, Term},
    },
};
use tracing_subscriber::EnvFilter;

/// Puts hold points on what AI coding agents do to Google Cloud from this machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Holdpoint {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon, in the foreground.
    Daemon {
        /// The configuration file.
        #[arg(long, default_value = holdpoint::config::DEFAULT_PATH)]
        config: PathBuf,
        #[command(flatten)]
        options: daemon::Options,
    },
    /// Starts sessions' processes for the daemon, so that they outlive it.
    Launcher {
        /// The configuration file.
        #[arg(long, default_value = holdpoint::config::DEFAULT_PATH)]
        config: PathBuf,
        /// Started by a daemon, and ends with it: the parent of the sessions' cgroups.
        #[arg(long, value_name = "CGROUP", hide = true)]
        temporary: Option<PathBuf>,
    },
    /// Runs a command in a new session.
    Run(cli::run::Args),
    /// Lists, shows and answers held operations.
    Approvals(cli::approvals::Args),
    /// Shows what waits for a person, and takes answers, on one live screen.
    Review(cli::review::Args),
    /// Lists and revokes what reviewers have granted for a while.
    Grants(cli::grants::Args),
    /// Shows a reviewer's OIDC token, for groups of people whom an issuer knows.
    Login(cli::login::Args),
    Logout(cli::login::LogoutArgs),
    /// Inside a session: shows whom it acts for, and binds a runner's job.
    Session(cli::session::Args),
    /// Lists, shows, replays, follows and exports what happened.
    Sessions(cli::sessions::Args),
    /// For auditors: who approved what, and proof that nobody changed what happened.
    Audit(cli::audit::Args),
    /// Shows whether the daemon runs and what it has attached.
    Status(cli::status::Args),
    /// Checks, tests and explains policies, and tries them out.
    Policy(cli::policy::Args),
    /// Says what captured requests would be taken for, offline.
    Recognise(cli::recognise::Args),
    /// Masks standard input, offline, as sessions' answers are masked.
    Mask(cli::mask::Args),
    /// Looks at the host, and attacks a sandbox of its own.
    Doctor(cli::doctor::Args),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages, for packages.
    #[command(hide = true)]
    ManPages {
        /// The directory they go to.
        dir: PathBuf,
    },
    /// Ends what a stopped daemon left in the kernel: sessions and BPF programs.
    Detach {
        /// The configuration file.
        #[arg(long, default_value = holdpoint::config::DEFAULT_PATH)]
        config: PathBuf,
    },
    /// One per session; the launcher starts it.
    #[command(hide = true)]
    Shim,
    /// Starts the containers of sessions, for a container engine.
    #[command(hide = true)]
    OciRuntime {
        /// The configuration file.
        #[arg(long, default_value = holdpoint::config::DEFAULT_PATH)]
        config: PathBuf,
        /// What the engine says.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// What the doctor runs, outside of a sandbox and inside.
    #[command(hide = true)]
    Attack {
        /// The plan in JSON, or `victim`.
        plan: String,
    },
}

fn main() -> ExitCode {
    match Holdpoint::parse().command {
        Command::Daemon { config, options } => told(run_daemon(&config, options)),
        Command::Launcher { config, temporary } => told(run_launcher(&config, temporary)),
        Command::Run(args) => cli::run::run(args),
        Command::Approvals(args) => told(block_on(cli::approvals::run(&args))),
        Command::Review(args) => told(block_on(cli::review::run(args))),
        Command::Grants(args) => told(block_on(cli::grants::run(&args))),
        Command::Login(args) => told(block_on(cli::login::run(&args))),
        Command::Logout(args) => told(block_on(cli::login::log_out(&args))),
        Command::Session(args) => told(block_on(cli::session::run(&args))),
        Command::Sessions(args) => told(block_on(cli::sessions::run(&args))),
        Command::Audit(args) => block_on(cli::audit::run(&args)).unwrap_or_else(failed),
        Command::Status(args) => told(block_on(cli::status::run(&args))),
        Command::Policy(args) => block_on(cli::policy::run(&args)).unwrap_or_else(failed),
        Command::Recognise(args) => told(cli::recognise::run(&args)),
        Command::Mask(args) => told(cli::mask::run(&args)),
        Command::Doctor(args) => cli::doctor::run(&args).unwrap_or_else(failed),
        Command::Completions { shell } => {
            let mut command = Holdpoint::command();
            clap_complete::generate(shell, &mut command, "holdpoint", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::ManPages { dir } => told(man_pages(&dir)),
        Command::Detach { config } => {
            told(Config::load(&config).and_then(|config| detach::run(&config)))
        }
        Command::Shim => launch::shim::main(),
        Command::OciRuntime { config, arguments } => containers::runtime::main(&config, arguments),
        Command::Attack { plan } => doctor::attack::main(&plan),
    }
}

fn run_daemon(config: &Path, options: daemon::Options) -> anyhow::Result<()> {
    log_to_stderr();
    let config = Config::load(config)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(daemon::run(config, options))
}

fn run_launcher(config: &Path, temporary: Option<PathBuf>) -> anyhow::Result<()> {
    log_to_stderr();
    if let Some(agents_cgroup) = temporary {
        // Its socket was handed over.
        return launcher::run(Path::new(""), agents_cgroup, Term::Temporary);
    }
    let config = Config::load(config)?;
    let agents_cgroup = kernel::cgroup2_root()?.join(&config.agents_cgroup);
    launcher::run(&config.launcher_socket(), agents_cgroup, Term::Lasting)
}

fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("HOLDPOINT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

fn man_pages(dir: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Holdpoint::command(), dir)
        .with_context(|| format!("cannot write manual pages to {}", dir.display()))
}

fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(task)
}

fn told(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("holdpoint: {error:#}");
    ExitCode::FAILURE
}
