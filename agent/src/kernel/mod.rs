//! Loads, attaches and pins the BPF programs, and owns their maps. The one module that touches aya.
//!
//! The programs' own account of what they do is in `agent-ebpf/src/main.rs`. They are attached at the cgroup2 root and
//! their links are pinned, so they go on enforcing when the daemon dies: without its listeners every connection of a
//! session is refused.

mod anchors;
mod bpffs;
mod cgroup;
mod drops;
pub mod inspect;
mod pins;
mod programs;
mod prove;
#[cfg(test)]
mod sources;
mod sys;

use std::{
    borrow::Borrow,
    convert::Infallible,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, SkStorage},
};
use aya_log::EbpfLogger;
use holdpoint_ebpf_common::{FlowKey, Process, SessionEntry, Slice, SocketState, names};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::io::{Interest, unix::AsyncFd};

pub use anchors::{Anchors, Loss};
pub use bpffs::{is_bpffs, require as make_pin_dir};
pub use cgroup::{AgentsCgroup, cgroup2_root};
use drops::Drops;
pub use drops::Refused;
pub use holdpoint_ebpf_common::{HOST_PORTS, Network, Refusal, SessionPorts, SessionRules};
pub use sys::knows_all_processes;

/// BPF_NOEXIST of linux/bpf.h.
const NO_EXIST: u64 = 1;

/// What a redirected connection asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it wanted to go. v4-mapped addresses are IPv4 here.
    pub destination: SocketAddr,
    /// The process that connected, as the initial pid namespace knows it.
    pub pid: u32,
    command: [u8; 16],
}

impl Flow {
    /// The name of the thread that connected, as that has chosen it, without control characters: known also when it is gone.
    #[must_use]
    pub fn command(&self) -> String {
        drops::name(&self.command)
    }
}

/// A program that stays attached without this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinnedLink {
    /// The program's name.
    pub program: String,
    /// What it is attached to, as `bpftool` spells it.
    pub attach_type: String,
    /// Where its link is pinned.
    pub pin: PathBuf,
}

/// The attached programs and their maps. Dropping it detaches nothing.
pub struct Kernel {
    ebpf: Mutex<Ebpf>,
    agents: AgentsCgroup,
    cgroup2_root: PathBuf,
    links: Vec<PinnedLink>,
    drops: Drops,
    heartbeat: Mutex<Array<MapData, u64>>,
    flows: Mutex<HashMap<MapData, FlowKey, holdpoint_ebpf_common::Flow>>,
}

impl Kernel {
    /// Loads the programs, attaches them at `cgroup2_root` for everything below `agents`, proves by trying that they
    /// refuse, and pins their links and maps below `pin_dir`.
    ///
    /// What a dead daemon left pinned there goes on enforcing until the new programs do, and is then replaced and gone when
    /// this returns. Of its sessions, those that are named in `sessions` (the cgroup's id and its rules) are open before the first new
    /// program runs; whatever still runs in another is refused. `slice` is the cgroup to start with for [`Self::watch_slice`].
    ///
    /// # Errors
    /// When this is not root, the kernel is older than 5.10 or refuses the programs, `pin_dir` is on no bpffs, or a
    /// connection that had to be refused was not. What a dead daemon left is still enforcing then, unless it is the pins
    /// themselves that failed.
    pub fn attach(
        pin_dir: &Path,
        cgroup2_root: &Path,
        agents: &AgentsCgroup,
        sessions: &[(u64, SessionRules)],
        slice: Option<&Path>,
    ) -> anyhow::Result<Self> {
        make_pin_dir(pin_dir)?;
        let (maps, links) = (pin_dir.join("maps"), pin_dir.join("links"));
        let mut ebpf = programs::load(agents, &maps)?;
        for (cgroup_id, rules) in sessions {
            open_session(&mut ebpf, *cgroup_id, *rules)?;
        }
        if let Some(slice) = slice {
            watch_slice(&mut ebpf, cgroup2_root, slice)?;
        }
        let attached = programs::attach(&mut ebpf, cgroup2_root)?;
        prove_enforcement(&ebpf, agents)?;

        let predecessor = pinned_counters(&maps.join(names::REFUSALS))?;
        pins::maps(&ebpf, &maps)?;
        let links = pins::links(attached, &links)?;
        if let Some(counters) = predecessor {
            wait_until_gone(&counters, agents)?;
        }
        let drops = ebpf.take_map(names::DROPS).context("no map of drops")?;
        let heartbeat = ebpf.take_map(names::HEARTBEAT);
        let heartbeat = Array::try_from(heartbeat.context("no map for the heartbeat")?)?;
        let flows = ebpf.take_map(names::FLOWS);
        let flows = HashMap::try_from(flows.context("no map of flows")?)?;
        Ok(Self {
            ebpf: Mutex::new(ebpf),
            agents: agents.clone(),
            cgroup2_root: cgroup2_root.to_owned(),
            links,
            drops: Drops::new(drops.try_into()?),
            heartbeat: Mutex::new(heartbeat),
            flows: Mutex::new(flows),
        })
    }

    /// Opens the network, such as it is, to the processes of a session: a child of the agents' cgroup, or a cgroup up to 8 levels
    /// below it or below the slice. A session may be within another; the inner one's rules go for its processes.
    ///
    /// # Errors
    /// When the cgroup is already a session's, or there are 4096 sessions.
    pub fn open_session(&self, cgroup_id: u64, rules: SessionRules) -> anyhow::Result<()> {
        open_session(&mut self.ebpf(), cgroup_id, rules)
    }

    /// Closes it: from here on every connection of the session is refused. Closing what is not open changes nothing.
    ///
    /// # Errors
    /// When the kernel does not take the entry out.
    pub fn close_session(&self, cgroup_id: u64) -> anyhow::Result<()> {
        let mut ebpf = self.ebpf();
        let mut sessions = hash_mut::<u64, SessionEntry>(&mut ebpf, names::SESSIONS)?;
        match sessions.remove(&cgroup_id) {
            Err(error) if !is_missing(&error) => Err(error)
                .with_context(|| format!("cannot take session cgroup {cgroup_id} from the kernel")),
            _ => Ok(()),
        }
    }

    /// Makes `socket` a listener of a session that is open, in the host's network namespace: no other is taken for one there.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn own_listener(&self, cgroup_id: u64, socket: BorrowedFd<'_>) -> anyhow::Result<()> {
        let mut ebpf = self.ebpf();
        let map = ebpf.map_mut(names::SOCKETS).context("no map of sockets")?;
        SkStorage::try_from(map)?
            .insert(&socket, SocketState::new(cgroup_id, Process::UNKNOWN), 0)
            .with_context(|| {
                format!("cannot tell the kernel of a listener of session cgroup {cgroup_id}")
            })
    }

    /// Tells the programs that this process runs. Once it has, it has to again at least every second: else they take it for frozen, and
    /// refuse connections to listeners that nobody would accept at.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn beat(&self) -> anyhow::Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let now = u64::try_from(now.as_nanos())?;
        let mut heartbeat = self.heartbeat.lock().expect("no panic while locked");
        Ok(heartbeat.set(0, now, 0)?)
    }

    /// Refuses everything to what is below the cgroup `slice`, except to the sessions there: services in the host's network namespace.
    /// There is one slice; the next one takes its place. A slice that was stopped and started again is another cgroup, so watch it
    /// again, before anything starts in it.
    ///
    /// # Errors
    /// When it is not below the cgroup2 root.
    pub fn watch_slice(&self, slice: &Path) -> anyhow::Result<()> {
        watch_slice(&mut self.ebpf(), &self.cgroup2_root, slice)
    }

    /// What the connection from `client`, accepted at `listener` in the session's namespace, asked for. Each connection can be
    /// asked about once. `None`: it was not redirected there, so nobody knows what it is for: close it.
    #[must_use]
    pub fn flow(&self, cgroup_id: u64, client: SocketAddr, listener: SocketAddr) -> Option<Flow> {
        let key = FlowKey {
            session: cgroup_id,
            client: client.into(),
            listener: listener.into(),
        };
        let mut flows = self.flows.lock().expect("no panic while locked");
        let flow = flows.get(&key, 0).ok()?;
        flows.remove(&key).ok()?;
        Some(Flow {
            destination: flow.destination.into(),
            pid: flow.process.pid,
            command: flow.process.command,
        })
    }

    /// What to look at to know that the programs are attached still, and nothing has come between.
    ///
    /// # Errors
    /// When that is not so already.
    pub fn anchors(&self, pin_dir: &Path) -> anyhow::Result<Anchors> {
        Anchors::hold(&self.links, &pin_dir.join("maps"), &self.agents)
    }

    /// The programs that stay attached, whatever becomes of this process.
    #[must_use]
    pub fn links(&self) -> Vec<PinnedLink> {
        self.links.clone()
    }

    /// How often each reason to refuse came up since the programs were loaded.
    ///
    /// # Errors
    /// When the kernel does not hand the counters out.
    pub fn refusals(&self) -> anyhow::Result<Vec<(Refusal, u64)>> {
        let ebpf = self.ebpf();
        let counters = counters(&ebpf)?;
        Refusal::ALL
            .into_iter()
            .map(|refusal| Ok((refusal, refused(&counters, refusal)?)))
            .collect()
    }

    /// The next refusal, as it happens; each is handed out once. Cancel safe. Those that nobody has asked for wait (a few thousand of
    /// them; the rest is lost, and counted by [`Self::lost_refusals`]).
    ///
    /// # Errors
    /// When it cannot be waited for: no runtime, or no descriptors.
    pub async fn refused(&self) -> io::Result<Refused> {
        self.drops.next().await
    }

    /// The next refusal that has already happened.
    #[must_use]
    pub fn refused_already(&self) -> Option<Refused> {
        self.drops.ready()
    }

    /// How many refusals [`Self::refused`] did not hand out, because nobody asked for them in time.
    ///
    /// # Errors
    /// When the kernel does not hand the counter out.
    pub fn lost_refusals(&self) -> anyhow::Result<u64> {
        let ebpf = self.ebpf();
        let lost: Counters<&MapData> = ebpf
            .map(names::LOST)
            .context("no map of losses")?
            .try_into()?;
        Ok(lost.get(&0, 0)?.iter().sum())
    }

    /// Tries to connect, to send and to make a socket from below the agents' cgroup but outside of any session, in a child process of
    /// its own. Enforcement is proved by trying, never by a successful attach.
    ///
    /// # Errors
    /// When something is not refused, or cannot be tried.
    pub fn prove(&self) -> anyhow::Result<()> {
        prove_enforcement(&self.ebpf(), &self.agents)
    }

    /// Passes what the programs log (packets dropped at the last moment) on to `log`, for ever. Call it once.
    ///
    /// # Errors
    /// When the log cannot be read, or already is.
    pub async fn log_drops(&self) -> anyhow::Result<Infallible> {
        let logger =
            EbpfLogger::init(&mut self.ebpf()).context("cannot open the BPF programs' log")?;
        // SAFETY: the logger owns the ring buffer's descriptor and keeps it for as long as it lives.
        let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
        loop {
            let mut ready = logger.readable_mut().await?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }

    fn ebpf(&self) -> MutexGuard<'_, Ebpf> {
        self.ebpf.lock().expect("no panic while locked")
    }
}

fn open_session(ebpf: &mut Ebpf, cgroup_id: u64, rules: SessionRules) -> anyhow::Result<()> {
    // 0 is what the kernel answers for "no such ancestor".
    anyhow::ensure!(cgroup_id != 0, "0 is no cgroup's id");
    hash_mut(ebpf, names::SESSIONS)
        .and_then(|mut sessions| {
            Ok(sessions.insert(cgroup_id, SessionEntry::from(rules), NO_EXIST)?)
        })
        .with_context(|| format!("cannot tell the kernel of session cgroup {cgroup_id}"))
}

fn watch_slice(ebpf: &mut Ebpf, cgroup2_root: &Path, path: &Path) -> anyhow::Result<()> {
    let slice = Slice::new(cgroup::id(path)?, cgroup::level(cgroup2_root, path)?);
    anyhow::ensure!(slice.level > 0, "the slice cannot be the cgroup2 root");
    let map = ebpf.map_mut(names::SLICE).context("no map of slices")?;
    Array::try_from(map)?
        .set(0, slice, 0)
        .with_context(|| format!("cannot tell the kernel of the slice {}", path.display()))
}

type Counters<T> = PerCpuArray<T, u64>;

/// Tries, and counts: programs of a dead daemon may refuse as well, these have to.
fn prove_enforcement(ebpf: &Ebpf, agents: &AgentsCgroup) -> anyhow::Result<()> {
    let counters = counters(ebpf)?;
    let before = refused(&counters, Refusal::NoSession)?;
    let attempts = prove::all_refused(agents)?;
    let by_these = refused(&counters, Refusal::NoSession)? - before;
    anyhow::ensure!(
        by_these >= attempts,
        "the BPF programs are attached but do not enforce: they refused {by_these} of {attempts} attempts that had to be refused"
    );
    Ok(())
}

/// The kernel detaches a program some time after its last pin is gone. Until then it refuses the new sessions, which it does
/// not know: wait until what has to be refused is refused without it.
fn wait_until_gone(predecessor: &Counters<MapData>, agents: &AgentsCgroup) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let before = refused(predecessor, Refusal::NoSession)?;
        prove::all_refused(agents)?;
        if refused(predecessor, Refusal::NoSession)? == before {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the BPF programs of an earlier daemon do not go away: is there another pin or process that holds them? (`bpftool link`)"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn pinned_counters(pin: &Path) -> anyhow::Result<Option<Counters<MapData>>> {
    if !pin.exists() {
        return Ok(None);
    }
    MapData::from_pin(pin)
        .and_then(|data| Map::PerCpuArray(data).try_into())
        .map(Some)
        .with_context(|| format!("{} is not a map that Holdpoint pins", pin.display()))
}

fn counters(ebpf: &Ebpf) -> anyhow::Result<Counters<&MapData>> {
    let map = ebpf
        .map(names::REFUSALS)
        .with_context(|| format!("the BPF object has no map {}", names::REFUSALS))?;
    Ok(map.try_into()?)
}

fn refused<T: Borrow<MapData>>(counters: &Counters<T>, refusal: Refusal) -> anyhow::Result<u64> {
    let per_cpu = counters
        .get(&(refusal as u32), 0)
        .context("cannot read the kernel's counters of refusals")?;
    Ok(per_cpu.iter().sum())
}

fn hash_mut<'a, K: Pod, V: Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> anyhow::Result<HashMap<&'a mut MapData, K, V>> {
    let map = ebpf
        .map_mut(name)
        .with_context(|| format!("the BPF object has no map {name}"))?;
    Ok(map.try_into()?)
}

fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Kernel, sources};

    const _: fn() = || {
        fn shared<T: Send + Sync>() {}
        shared::<Kernel>();
    };

    #[test]
    fn the_committed_object_is_of_these_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package is in the repository");
        let recorded =
            fs::read_to_string(root.join(sources::DIGESTS)).expect("digests are committed");
        let actual = sources::digests(root).expect("the sources are readable");
        assert_eq!(
            recorded, actual,
            "the BPF sources and the committed object differ: run `cargo xtask build-ebpf` and commit what it writes"
        );
    }
}
