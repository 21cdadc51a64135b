//! Puts the parts together and runs them.

mod house;
mod listeners;
mod policies;
mod status;

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use holdpoint_core::digest::Digest;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sha2::{Digest as _, Sha256};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

pub use self::house::House;
pub(crate) use self::{listeners::serve_listeners, policies::load_policies};
use self::{
    policies::{Loaded, announce, keep_reloading},
    status::{control_state, groups_of, scrape, serve_metrics},
};
use crate::{
    adoption::{self, Adopted},
    allowance::Memory,
    alone::Alone,
    approvals::{self, Approvals},
    audit::{self, keeper::Checkpoints},
    config::Config,
    containers::{self, Containers},
    control::{self, Logins},
    credential::Credentials,
    doctor,
    gate::Gate,
    guard::Guard,
    kernel::{self, AgentsCgroup, Kernel, Loss},
    launch::{self, Launcher, RunListener},
    lookup::Lookups,
    masking::Masking,
    notifications::{Links, Notifier, endpoint},
    notify::{Watchdog, notify},
    oidc::Verifier,
    opening,
    postgres::Databases,
    record::{Event, Record},
    retention::Retention,
    service::Services,
    shipping::Shipping,
    slice,
    tls::{self, Authority, Connector, DatabaseAcceptor, Leaves},
    upstream::Upstream,
};

/// How a daemon runs, apart from its configuration.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Options {
    /// Fail where no launcher runs, instead of starting one that ends, with all sessions, when this daemon is told to.
    #[arg(long)]
    needs_launcher: bool,
    /// Do not mind when a BPF program is taken away: for the doctor, to show that it notices.
    #[arg(long, hide = true)]
    unguarded: bool,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When a part cannot be started. Nothing passes then.
pub async fn run(config: Config, options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "the daemon has to run as root: it attaches BPF programs and makes namespaces"
    );
    let config = Arc::new(config);
    prepare_dirs(&config)?;
    kernel::make_pin_dir(&config.bpf_dir)?;
    let _alone = Alone::with(&[&config.state_dir, &config.runtime_dir, &config.bpf_dir])?;
    let loaded = Loaded::read(&config, config.policy.mode)?;
    let services = Services::new(&config)?;
    let masking = Arc::new(Masking::new(&config)?);
    let record = Record::open_with(&config.record_dir(), config.record.settings())?;
    let checkpoints = sign(&record, &config)?;
    let cgroup2_root = kernel::cgroup2_root()?;
    let agents = AgentsCgroup::create(&cgroup2_root, &config.agents_cgroup)?;
    let lost = record.finish_leftovers().await?;
    if lost > 0 {
        tracing::warn!(lost, "operations of the daemon before had no outcome");
    }
    let missing = launch::enable_controllers(&agents.path).join(" and ");
    if !missing.is_empty() {
        tracing::warn!(
            "cgroup2 does not have {missing} here: nothing bounds that of a session (`holdpoint doctor` has advice)"
        );
    }
    raise_descriptor_limit().context("cannot raise the limit of open files")?;
    let mut launcher =
        Launcher::find_or_start(&config.runtime_dir, &agents.path, options.needs_launcher).await?;
    let site = launch::Site {
        agents_cgroup: agents.path.clone(),
        ca_bundle: config.ca_bundle(),
        launcher: launcher.socket().to_owned(),
        runtime_dir: config.runtime_dir.clone(),
        project: config.google.project.clone(),
        containers: config.containers.is_some(),
        sandbox: sandbox(&config),
    };
    let adopted = adoption::take_over(&site, &record).await?;
    let known: Vec<_> = adopted.iter().map(Adopted::for_kernel).collect();
    let slice = cgroup2_root.join(&config.agents_slice);
    let watched = slice::id(&slice)?;
    let kernel = Kernel::attach(
        &config.bpf_dir,
        &cgroup2_root,
        &agents,
        &known,
        watched.is_some().then_some(slice.as_path()),
    )?;
    let guard = match options.unguarded {
        true => Guard::none(),
        false => Guard::start(kernel.anchors(&config.bpf_dir)?)?,
    };

    let authority = Authority::open(&config.state_dir)?;
    tls::write_trust(&authority, &config.ca_bundle(), &config.truststore())?;
    doctor::prove(&kernel, &site, cgroup2_root).await?;
    // Those that proved that it enforces.
    while kernel.refused_already().is_some() {}
    let upstream = Upstream::new(&config.upstream)?;
    let credentials = Arc::new(Credentials::new(&config.google, upstream.clone())?);
    let leaves = Arc::new(Leaves::new(authority)?);
    let shipping = config.record.ship.clone().map(|settings| {
        let google = (upstream.clone(), credentials.clone());
        Shipping::start(&record, &checkpoints, &config.state_dir, settings, google)
    });
    if let Some(webhook) = &config.record.checkpoints.webhook {
        let task = audit::webhook::start(webhook, &checkpoints, &config.upstream)
            .context("record.checkpoints.webhook")?;
        tokio::spawn(task);
    }
    let lookups = Lookups::new(upstream.clone(), credentials.clone(), record.clone());
    let logins = Arc::new(Logins::new(&config)?);
    let issuers: Vec<_> = config
        .reviewer_issuers
        .iter()
        .map(|it| it.url.clone())
        .collect();
    logins.restore(&record.standing().await?, &issuers);
    let links = answer_links(&config)?;
    let notifier = Notifier::start(
        &config,
        links.clone(),
        launcher.socket(),
        groups_of(&config, &logins),
    )?;
    let settings = approvals::Settings {
        notifier: notifier.clone(),
        ..config.approval_settings()
    };
    let approvals = Approvals::open(record.clone(), settings).await?;
    approvals
        .policies_changed(loaded.in_force.policies.hold_rules().collect())
        .await;
    let house = Arc::new(House {
        kernel,
        gate: Gate::new(
            loaded.in_force,
            record.clone(),
            approvals.clone(),
            lookups,
            masking.shown(),
            config.hold.clone(),
        ),
        approvals,
        notifier,
        sessions: Arc::default(),
        services,
        refusals: Arc::default(),
        acceptor: tls::acceptor(leaves.clone())?,
        database_acceptor: DatabaseAcceptor::new(leaves)?,
        connector: Connector::open(&config.state_dir)?,
        databases: Databases::new(&config, &credentials, &upstream)?,
        masking,
        credentials,
        verifier: Verifier::new(&config.issuers, &config.upstream)?,
        upstream,
        http2_answer: config.hold.http2_answer(),
        memory: Memory::default(),
        limits: config.session.clone(),
        site,
        google: config.google.clone(),
        unknown_names: config.dns.unknown_names,
        containers: config.containers.as_ref().map(Containers::new),
        sessions_stay: AtomicBool::new(!launcher.is_temporary()),
        stopping: watch::Sender::new(false),
        checkpoints,
        shipping,
        record,
    });

    let retention = Retention::new(
        house.record.clone(),
        config.record.retention,
        house.shipping.clone(),
    );
    let retention = Arc::new(retention);
    let control = control::open(
        &config.control_socket(),
        control_state(&house, &config, logins.clone(), retention.clone()),
    )?;
    let control = tokio::spawn(control);
    if let (Some(answers), Some(links)) = (&config.answers, links) {
        let approvals = house.approvals.clone();
        let server = endpoint::Server::new(&config, answers, approvals, links, logins)?;
        tokio::spawn(server.serve());
    }
    tokio::spawn(log_drops(house.clone()));
    tokio::spawn(slice::watch(house.clone(), slice, watched));
    keep_beating(house.clone())?;
    tokio::spawn(note_kernel_refusals(house.clone()));
    tokio::spawn(record_refusals(house.clone()));
    if let Some(address) = config.metrics.listen {
        tokio::spawn(serve_metrics(address, scrape(&house)));
    }
    if house.containers.is_some() {
        let socket = containers::bind(&config.containers_socket())?;
        tokio::spawn(containers::answer_runtimes(house.clone(), socket));
    }
    let runs = RunListener::bind(&config.run_socket())?;
    house
        .record
        .append(Event::DaemonStarted {
            version: env!("CARGO_PKG_VERSION").into(),
        })
        .await?;
    house.record.append(configuration_loaded(&config)?).await?;
    house.record.append(loaded.event).await?;
    // Also what a daemon that was killed could not sign any more.
    if let Err(error) = house.checkpoints.now().await {
        tracing::error!("the record is not signed: {error:#}");
    }
    announce(config.policy.mode);
    let mut sessions = JoinSet::new();
    for session in adopted {
        sessions.spawn(adoption::serve(house.clone(), session));
    }
    tokio::spawn(containers::remove_leftovers(house.clone()));
    let reloads = keep_reloading(house.clone(), config.clone(), signal(SignalKind::hangup())?);
    let reloads = tokio::spawn(reloads);
    let retention = tokio::spawn(retention.keep_running());
    notify("READY=1");
    tracing::info!("ready: sessions can be opened with `holdpoint run`");
    let end = serve(&house, &runs, &mut sessions, control, guard, &mut launcher).await?;

    notify("STOPPING=1");
    // Nothing is told to the record after its end.
    for task in [reloads, retention] {
        task.abort();
        let _aborted = task.await;
    }
    let reason = match &end {
        End::Told(signal) => (*signal).to_owned(),
        End::Lost(loss) => {
            house.sessions_stay.store(false, Ordering::Relaxed);
            record_loss(&house, loss).await;
            format!("enforcement was lost: {loss}")
        }
    };
    tracing::info!(%reason, "stopping");
    opening::end_all(&house, &mut sessions).await;
    launcher.stop().await;
    house
        .record
        .append(Event::DaemonStopped {
            reason: (&reason).into(),
        })
        .await?;
    if let Err(error) = house.checkpoints.now().await {
        tracing::error!("the end of the record is not signed: {error:#}");
    }
    let shipped = ship_the_rest(&house, &config).await;
    match end {
        End::Told(_) => shipped,
        End::Lost(_) => anyhow::bail!(reason),
    }
}

/// The end of the record, which is off this host before the daemon ends, or said not to be.
async fn ship_the_rest(house: &House, config: &Config) -> anyhow::Result<()> {
    let (Some(shipping), Some(settings)) = (&house.shipping, &config.record.ship) else {
        return Ok(());
    };
    // Else systemd counts this as part of `TimeoutStopSec=`.
    let granted = settings.stop_within + Duration::from_secs(5);
    notify(&format!("EXTEND_TIMEOUT_USEC={}", granted.as_micros()));
    let finished = shipping.finish(settings.stop_within).await;
    if let Err(left) = &finished {
        tracing::error!("{left}");
    }
    Ok(finished?)
}

/// Has the record signed from here on, and the key shown to everybody.
fn sign(record: &Record, config: &Config) -> anyhow::Result<Checkpoints> {
    let signer = audit::keys::open(config)?;
    let file = config.record_key();
    fs::write(&file, format!("{}\n", signer.verifier()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let settings = config.record.checkpoints.clone();
    Checkpoints::start(record, &config.state_dir, signer, settings)
}

/// Says that this daemon runs, for as long as it does: a frozen one's listeners would keep every client waiting. On a thread of its own,
/// so that sessions that keep the daemon busy do not make it look frozen.
fn keep_beating(house: Arc<House>) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_millis(250);
    let beat = move || {
        while house.kernel.beat().is_ok() {
            thread::sleep(EVERY);
        }
        tracing::error!("cannot tell the kernel that this daemon runs: connections are refused");
    };
    let thread = thread::Builder::new().name("heartbeat".into()).spawn(beat);
    thread.map(drop).context("cannot start a thread")
}

/// Why a daemon ends.
enum End {
    /// By this signal.
    Told(&'static str),
    /// The BPF programs are no longer to be relied on.
    Lost(Loss),
}

/// Takes `holdpoint run` requests and signals until one of them ends the daemon; says which.
async fn serve(
    house: &Arc<House>,
    runs: &RunListener,
    sessions: &mut JoinSet<()>,
    mut control: tokio::task::JoinHandle<Infallible>,
    mut guard: Guard,
    launcher: &mut Launcher,
) -> anyhow::Result<End> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut watchdog = Watchdog::from_environment();
    loop {
        tokio::select! {
            request = runs.accept() => match request {
                Ok(request) => {
                    sessions.spawn(opening::serve(house.clone(), request));
                }
                Err(error) => {
                    tracing::warn!(%error, "a `holdpoint run` request was not understood");
                    // Out of descriptors, say: let others end first.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(turned_away) = runs.turned_away() => house.note_turned_away(&turned_away),
            Some(_) = sessions.join_next() => {}
            Err(error) = &mut control => return Err(error).context("the control API panicked"),
            () = watchdog.due() => notify("WATCHDOG=1"),
            () = launcher.ended() => launcher.revive(),
            loss = guard.lost() => return Ok(End::Lost(loss?)),
            _ = terminate.recv() => return Ok(End::Told("SIGTERM")),
            _ = interrupt.recv() => return Ok(End::Told("SIGINT")),
        }
    }
}

async fn record_loss(house: &House, loss: &Loss) {
    tracing::error!(
        "enforcement was lost: {loss}; all sessions are ended, and so is this daemon: the next one attaches the BPF programs anew. \
         Find out who did it: only root can"
    );
    let event = Event::EnforcementLost {
        what: loss.to_string().into(),
    };
    if let Err(error) = house.record.append(event).await {
        tracing::error!(%error, "that enforcement was lost is missing in the record");
    }
}

/// What the BPF programs say about packets that got past everything but the backstop.
async fn log_drops(house: Arc<House>) {
    let Err(error) = house.kernel.log_drops().await;
    tracing::warn!("drops in the kernel are counted and not logged: {error:#}");
}

async fn record_refusals(house: Arc<House>) {
    house.refusals.keep_record(&house.record).await;
}

/// What the BPF programs refuse, for people to see.
async fn note_kernel_refusals(house: Arc<House>) {
    loop {
        match house.kernel.refused().await {
            Ok(refused) => house.note_kernel_refusal(&refused),
            Err(error) => {
                return tracing::warn!(%error, "refusals of the kernel are counted and not shown one by one");
            }
        }
    }
}

/// Which configuration this is.
fn configuration_loaded(config: &Config) -> anyhow::Result<Event> {
    let bytes = fs::read(&config.file)
        .with_context(|| format!("cannot read the configuration {}", config.file.display()))?;
    Ok(Event::ConfigurationLoaded {
        file: config.file.to_string_lossy().into(),
        sha256: Digest::from_bytes(Sha256::digest(bytes).into()),
    })
}

fn sandbox(config: &Config) -> launch::Sandbox {
    let session = config.session.clone();
    launch::Sandbox {
        private_tmp: session.private_tmp,
        shared: session.shared,
        sockets: session.sockets,
        limits: launch::Limits {
            processes: session.max_processes,
            memory: session.max_memory,
        },
        truststore: Some(config.truststore()),
        root_files: config.root_files(),
    }
}

/// Two descriptors for every connection of every session take more than the soft limit that programs which use select(2) need.
fn raise_descriptor_limit() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

fn prepare_dirs(config: &Config) -> anyhow::Result<()> {
    for (dir, mode) in [(&config.state_dir, 0o700), (&config.runtime_dir, 0o755)] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(dir)
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    Ok(())
}

/// Where held operations may be answered from elsewhere, if anywhere.
fn answer_links(config: &Config) -> anyhow::Result<Option<Arc<Links>>> {
    let Some(answers) = &config.answers else {
        return Ok(None);
    };
    let key = config.state_dir.join("answer-links.key");
    Ok(Some(Arc::new(Links::open(&key, answers.origin()?)?)))
}
