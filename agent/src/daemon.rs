//! Puts the parts together and runs them.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use holdpoint_core::{catalog::Catalog, digest::Digest, operation::Action, policy::Policies};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    adoption::{self, Adopted},
    allowance::Memory,
    alone::Alone,
    approvals::{self, Approvals},
    audit::{self, keeper::Checkpoints},
    binding::Sandbox,
    config::{self, Config, SessionLimits},
    connection,
    containers::{self, Containers},
    control::{self, ControlState, Logins},
    credential::Credentials,
    dns, doctor,
    gate::{Gate, InForce},
    guard::Guard,
    kernel::{self, AgentsCgroup, Kernel, Loss},
    launch::{self, Launcher, RunListener},
    lookup::Lookups,
    masking::Masking,
    metrics::{self, Scrape},
    notifications::{GroupsOf, Links, Notifier, endpoint},
    notify::{Watchdog, notify},
    oidc::Verifier,
    opening, policy_dir,
    postgres::Databases,
    record::{Event, Record, Text},
    refusals::{Refusals, Refused, RefusedBy},
    retention::Retention,
    service::Services,
    session::Sessions,
    shipping::Shipping,
    slice,
    tls::{self, Authority, Connector, DatabaseAcceptor, Leaves},
    upstream::Upstream,
};

/// Connections one session may have open at once.
const CONNECTIONS: usize = 512;

/// The parts of a running daemon that sessions and connections use.
pub struct House {
    /// The BPF programs.
    pub kernel: Kernel,
    /// The account of everything.
    pub record: Record,
    /// What signs it.
    pub checkpoints: Checkpoints,
    /// What takes it off this host, where that is configured.
    pub shipping: Option<Shipping>,
    /// The judge.
    pub gate: Gate,
    /// Held operations.
    pub approvals: Approvals,
    /// Who is told of them.
    pub notifier: Notifier,
    /// Live sessions.
    pub sessions: Arc<Sessions>,
    /// Who may open sessions without a token.
    pub services: Services,
    /// What was refused, for people to see.
    pub refusals: Arc<Refusals>,
    /// TLS towards the sandboxes.
    pub acceptor: TlsAcceptor,
    /// TLS towards the sandboxes, for databases.
    pub database_acceptor: DatabaseAcceptor,
    /// TLS towards Cloud SQL connectors in the sandboxes.
    pub connector: Connector,
    /// The databases that sessions reach.
    pub databases: Databases,
    /// The way to Google.
    pub upstream: Upstream,
    /// What is masked.
    pub masking: Arc<Masking>,
    /// What Google is shown.
    pub credentials: Arc<Credentials>,
    /// Who may open sessions.
    pub verifier: Verifier,
    /// After how long an HTTP/2 request that waits for people is answered "pending".
    pub http2_answer: Duration,
    /// The memory that requests of all sessions may take up.
    pub memory: Memory,
    /// Limits of a session.
    pub limits: SessionLimits,
    /// Where sessions are made.
    pub site: launch::Site,
    /// What the sandboxes' metadata server says of the host.
    pub google: config::Google,
    /// What resolvers say of names that policy does not know.
    pub unknown_names: config::UnknownNames,
    /// The way to the container engine, where sessions have one.
    pub containers: Option<Containers>,
    /// Whether sessions outlive this daemon when it is told to stop.
    pub sessions_stay: AtomicBool,
    stopping: watch::Sender<bool>,
}

impl House {
    /// Ends what is done for all sessions, those that are being opened too.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether there is no place for one more session.
    pub fn is_full(&self) -> bool {
        self.sessions.count() >= self.limits.max_sessions
    }

    /// Tells the record what was refused so far and what it does not know of yet.
    pub async fn record_refusals(&self) {
        while let Some(refused) = self.kernel.refused_already() {
            self.note_kernel_refusal(&refused);
        }
        self.refusals.tell(&self.record).await;
    }

    /// A request for a session that nobody could be asked about.
    fn note_turned_away(&self, who: &launch::TurnedAway) {
        metrics::metrics().session_refused();
        let refused = Refused {
            session: None,
            by: RefusedBy::Launcher,
            process: who.uid.map(|uid| Text::short(&format!("uid {uid}"))),
            destination: None,
            reason: Text::short(&who.reason),
        };
        self.refusals.note(refused, who.pid);
    }

    fn note_kernel_refusal(&self, refused: &kernel::Refused) {
        let seen = Refused {
            session: self.sessions.of_cgroup(refused.session),
            by: RefusedBy::Kernel,
            process: (!refused.command.is_empty()).then(|| Text::short(&refused.command)),
            destination: refused
                .destination
                .map(|it| with_protocol(it, refused.protocol)),
            reason: refused.reason.name().into(),
        };
        self.refusals
            .note(seen, (refused.pid != 0).then_some(refused.pid));
    }

    /// Returns once the daemon stops.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }
}

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

fn with_protocol(destination: SocketAddr, protocol: u8) -> Text {
    match i32::from(protocol) {
        libc::IPPROTO_IP => destination.to_string().into(),
        libc::IPPROTO_TCP => format!("{destination}/tcp").into(),
        libc::IPPROTO_UDP => format!("{destination}/udp").into(),
        other => format!("{destination}/{other}").into(),
    }
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

/// Nothing depends on being watched.
async fn serve_metrics(address: SocketAddr, scrape: Scrape) {
    if let Err(error) = metrics::serve(address, scrape).await {
        tracing::error!("{error:#}");
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

/// Policies that were read, and what the record is told of them.
struct Loaded {
    in_force: InForce,
    event: Event,
}

impl Loaded {
    fn read(config: &Config, mode: config::Mode) -> anyhow::Result<Self> {
        let (policies, digest) = load_policies(config)?;
        let event = Event::PoliciesLoaded {
            policies: policies.iter().count() as u64,
            digest,
            mode,
        };
        let in_force = InForce {
            policies,
            digest,
            mode,
        };
        Ok(Self { in_force, event })
    }
}

/// That these policies are in force is nothing to overlook when they do not count.
fn announce(mode: config::Mode) {
    if mode == config::Mode::Observe {
        tracing::warn!(
            "POLICY IS ONLY OBSERVED ([policy] mode = \"observe\"): what it denies or would hold passes, and is recorded"
        );
    }
    metrics::metrics().policy_mode(mode);
}

/// Reloads the policies when told to, one time after the other; told again meanwhile, once more. Of the configuration it reads whether they
/// count: the rest of it is read at the daemon's start only.
async fn keep_reloading(house: Arc<House>, config: Arc<Config>, mut told: Signal) {
    while told.recv().await.is_some() {
        match reload(&house, config.clone()).await {
            Ok(()) => tracing::info!(dir = %config.policies.display(), "policies reloaded"),
            Err(error) => tracing::error!("the running policies stay in force: {error:#}"),
        }
    }
}

async fn reload(house: &House, config: Arc<Config>) -> anyhow::Result<()> {
    // Thousands of policies take a second, in which sessions are served.
    let read = tokio::task::spawn_blocking(move || {
        let mode = Config::load(&config.file)?.policy.mode;
        Loaded::read(&config, mode)
    });
    let Loaded { in_force, event } = read.await.context("the loading of policies panicked")??;
    let mode = in_force.mode;
    // On record before anything passes by them.
    house.record.append(event).await?;
    house.gate.replace_policies(in_force).await;
    announce(mode);
    Ok(())
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

/// The policies, with reviewers in the configuration for every hold, and the digest of their files.
pub(crate) fn load_policies(config: &Config) -> anyhow::Result<(Policies, Digest)> {
    let dir = config.policies.display();
    let sources = policy_dir::read_policies(&config.policies)?;
    let policies = Policies::load(&sources, Catalog::built_in()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the policies in {dir} are not valid:\n{}", lines.join("\n"))
    })?;
    for doubt in policies.doubts(&sources, Catalog::built_in()) {
        tracing::warn!("{dir}/{doubt}");
    }
    let unfit: Vec<_> = policy_dir::unfit(&policies, config)
        .iter()
        .map(ToString::to_string)
        .collect();
    anyhow::ensure!(
        unfit.is_empty(),
        "the policies in {dir} do not fit the configuration:\n{}",
        unfit.join("\n")
    );
    let parts = sources
        .iter()
        .flat_map(|source| [source.file.as_bytes(), source.text.as_bytes()]);
    Ok((policies, Digest::of(&parts.collect::<Vec<_>>())))
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

fn control_state(
    house: &Arc<House>,
    config: &Config,
    logins: Arc<Logins>,
    retention: Arc<Retention>,
) -> ControlState {
    let status = {
        let house = house.clone();
        move || status(&house)
    };
    let masking = house.clone();
    ControlState {
        record: house.record.clone(),
        checkpoints: house.checkpoints.clone(),
        shipping: house.shipping.clone(),
        retention,
        approvals: house.approvals.clone(),
        sessions: house.sessions.clone(),
        refusals: house.refusals.clone(),
        reviewers: config.reviewers.clone(),
        logins,
        token_end: Arc::new(move |sha256| masking.masking.token_end(sha256)),
        agents_cgroup: house.site.agents_cgroup.clone(),
        status: Arc::new(status),
        metrics: scrape(house),
    }
}

/// Where held operations may be answered from elsewhere, if anywhere.
fn answer_links(config: &Config) -> anyhow::Result<Option<Arc<Links>>> {
    let Some(answers) = &config.answers else {
        return Ok(None);
    };
    let key = config.state_dir.join("answer-links.key");
    Ok(Some(Arc::new(Links::open(&key, answers.origin()?)?)))
}

fn groups_of(config: &Config, logins: &Arc<Logins>) -> GroupsOf {
    let (reviewers, logins) = (config.reviewers.clone(), logins.clone());
    Arc::new(move |uid| control::groups_of(uid, &reviewers, &logins))
}

fn scrape(house: &Arc<House>) -> Scrape {
    let kernel = house.clone();
    Scrape {
        sessions: house.sessions.clone(),
        approvals: house.approvals.clone(),
        kernel_refusals: Arc::new(move || {
            let counts = kernel.kernel.refusals().unwrap_or_default().into_iter();
            counts
                .map(|(reason, count)| (reason.name(), count))
                .collect()
        }),
    }
}

fn status(house: &House) -> serde_json::Value {
    let refusals = house.kernel.refusals().unwrap_or_default();
    let in_force = house.gate.in_force();
    let refusals: Vec<_> = refusals
        .iter()
        .map(|(reason, count)| json!({"reason": reason.name(), "count": count}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "sessions": house.sessions.count(),
        "policy": {
            "mode": in_force.mode,
            "policies": in_force.policies.iter().count(),
        },
        "links": house.kernel.links(),
        "refusals": refusals,
        "notifications": house.notifier.told(),
        "shipping": house.shipping.as_ref().map(Shipping::status),
        "refusals_lost": house.kernel.lost_refusals().unwrap_or_default(),
    })
}

/// The names that a session may know.
struct SessionNames {
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
}

impl dns::Names for SessionNames {
    fn knows(&self, name: &str) -> bool {
        let room = self.sandbox.room();
        let session = &room.session;
        let asked = || session.standing.on_host(Action::NET_RESOLVE, name, None);
        Catalog::built_in().is_google_host(name)
            || self.house.databases.know(name)
            || room.instances.at(name).is_some()
            || self.house.gate.allows(session, &asked())
    }

    fn unknown(&self) -> config::UnknownNames {
        self.house.unknown_names
    }

    fn refused(&self, name: &str) {
        let refused = Refused {
            session: Some(self.sandbox.room().session.id.clone()),
            by: RefusedBy::Dns,
            process: None,
            destination: Some(Text::short(name)),
            reason: "unknown to policy".into(),
        };
        self.house.refusals.note(refused, None);
    }
}

/// Serves a session's listeners until dropped or aborted; when the daemon stops, until what is under way is answered.
pub(crate) async fn serve_listeners(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    listeners: launch::Listeners,
) {
    let names = SessionNames {
        house: house.clone(),
        sandbox: sandbox.clone(),
    };
    let resolver = dns::serve(
        sandbox.room().book.clone(),
        listeners.dns_udp,
        listeners.dns_tcp,
        names,
    );
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    for listener in listeners.proxy {
        tasks.spawn(accept(
            house.clone(),
            sandbox.clone(),
            listener,
            places.clone(),
        ));
    }
    tokio::select! {
        () = resolver => {}
        _ = tasks.join_next() => {}
        () = house.stopped() => {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    listener: TcpListener,
    places: Arc<Semaphore>,
) {
    // Of loopback, never of all addresses, so that each connection has the same.
    let own = match listener.local_addr() {
        Ok(own) => own,
        Err(error) => return tracing::error!(%error, "a session's listener is none"),
    };
    let mut connections = JoinSet::new();
    let mut stopped = std::pin::pin!(house.stopped());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let flow = connection::origin(&house, &sandbox.room(), own, client);
                    // Full means no: dropping the stream closes it.
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let (house, sandbox) = (house.clone(), sandbox.clone());
                        connections.spawn(async move {
                            connection::serve(house, sandbox, stream, flow).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stopped => break,
        }
    }
    // From here on whoever connects is refused.
    drop(listener);
    while connections.join_next().await.is_some() {}
}
