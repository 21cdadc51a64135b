//! What a daemon and its sessions take up of a host, to be compared.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    time::Duration,
};

use crate::{bpf, world::World};

/// Counts of everything that has to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Descriptors of the daemon, without its own TCP connections: those to Google are kept for the next request.
    pub descriptors: usize,
    /// Entries of the BPF programs' hashes.
    pub entries: BTreeMap<String, usize>,
    /// The agents' cgroup and those in it.
    pub cgroups: usize,
    /// Mounts that the daemon sees.
    pub mounts: usize,
    /// Processes that run the binary under test: daemon, launcher, shims, clients.
    pub processes: usize,
    /// Network namespaces that these are in.
    pub networks: usize,
}

impl Footprint {
    /// As it is now.
    ///
    /// # Errors
    /// When the daemon is gone, or something cannot be read.
    pub fn of(world: &World) -> io::Result<Self> {
        let daemon = format!("/proc/{}", world.daemon_pid());
        let networks = networks(world);
        Ok(Self {
            descriptors: descriptors(&daemon)?,
            entries: bpf::entries(&world.pins().join("maps"))?,
            cgroups: cgroups(world)?,
            mounts: fs::read_to_string(format!("{daemon}/mountinfo"))?
                .lines()
                .count(),
            processes: networks.values().sum(),
            networks: networks.len(),
        })
    }
}

/// The daemon's resident memory, in bytes (`VmRSS` of proc_pid_status(5)).
///
/// # Errors
/// When it is gone.
pub fn memory(world: &World) -> io::Result<usize> {
    memory_line(world, "VmRSS:")
}

/// The most resident memory that the daemon has had since it started, or since [`forget_peak`], in bytes (`VmHWM`).
///
/// # Errors
/// When it is gone.
pub fn peak_memory(world: &World) -> io::Result<usize> {
    memory_line(world, "VmHWM:")
}

/// Has [`peak_memory`] begin anew (`clear_refs` of proc_pid_clear_refs(5)).
///
/// # Errors
/// When it is gone.
pub fn forget_peak(world: &World) -> io::Result<()> {
    fs::write(format!("/proc/{}/clear_refs", world.daemon_pid()), "5")
}

fn memory_line(world: &World, name: &str) -> io::Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    Ok(kilobytes.ok_or(io::ErrorKind::InvalidData)? << 10)
}

/// The processor time that a process has taken, its ended threads' included (`utime` and `stime` of proc_pid_stat(5)).
///
/// # Errors
/// When it is gone.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the program's name, which is in brackets and may hold anything, the first field is the 3rd.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields
        .split(' ')
        .skip(14 - 3)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // Of USER_HZ, which is 100 on every architecture that Holdpoint is built for.
    Ok(Duration::from_millis(ticks * 10))
}

/// The daemon is in the host's network namespace, so only its own connections are in the tables there; sessions' sockets are in theirs.
fn descriptors(daemon: &str) -> io::Result<usize> {
    let mut own = HashSet::new();
    for table in ["tcp", "tcp6"] {
        // The 10th column is the inode (proc_pid_net(5)).
        let table = fs::read_to_string(format!("{daemon}/net/{table}"))?;
        let inodes = table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(9));
        own.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    let open = fs::read_dir(format!("{daemon}/fd"))?.flatten();
    let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    Ok(links
        .filter(|link| !own.contains(&*link.to_string_lossy()))
        .count())
}

fn cgroups(world: &World) -> io::Result<usize> {
    let entries = fs::read_dir(world.agents_cgroup())?.flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(1 + dirs.count())
}

/// Processes by the network namespace they are in.
fn networks(world: &World) -> BTreeMap<String, usize> {
    let binary = world.binary();
    let mut networks = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let link = |name: &str| fs::read_link(process.path().join(name));
        if let Ok(program) = link("exe")
            && program == binary
            && let Ok(network) = link("ns/net")
        {
            *networks.entry(network.display().to_string()).or_default() += 1;
        }
    }
    networks
}
