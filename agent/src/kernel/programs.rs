//! The committed object, loaded and attached.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapInfo, MapType},
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, links::FdLink},
};
use holdpoint_ebpf_common::{Flow, FlowKey, SocketState, names};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{
    AgentsCgroup,
    sys::{self, Command},
};

/// Built from `agent-ebpf` by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("holdpoint.bpf.o");

/// Every program in the object, and what `bpftool` calls its place.
pub const PROGRAMS: [(&str, &str); 15] = [
    ("sock_create", "cgroup_inet_sock_create"),
    ("egress", "cgroup_inet_egress"),
    ("connect4", "cgroup_inet4_connect"),
    ("connect6", "cgroup_inet6_connect"),
    ("sendmsg4", "cgroup_udp4_sendmsg"),
    ("sendmsg6", "cgroup_udp6_sendmsg"),
    ("recvmsg4", "cgroup_udp4_recvmsg"),
    ("recvmsg6", "cgroup_udp6_recvmsg"),
    ("getpeername4", "cgroup_inet4_getpeername"),
    ("getpeername6", "cgroup_inet6_getpeername"),
    ("sock_ops", "cgroup_sock_ops"),
    ("bind4", "cgroup_inet4_bind"),
    ("bind6", "cgroup_inet6_bind"),
    ("setsockopt", "cgroup_setsockopt"),
    ("ingress", "cgroup_inet_ingress"),
];

/// A program that runs for as long as `link` is held or pinned.
pub struct Attached {
    pub program: &'static str,
    pub attach_type: &'static str,
    pub link: Link,
}

/// Detaches the program when the last descriptor and the last pin are gone.
pub enum Link {
    Aya(FdLink),
    /// Of a kind that aya does not hand out.
    Raw(OwnedFd),
}

impl Link {
    /// Pins it at a path on a bpffs.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn pin(self, path: &Path) -> anyhow::Result<()> {
        match self {
            Self::Aya(link) => {
                link.pin(path)?;
            }
            Self::Raw(link) => {
                let path = CString::new(path.as_os_str().as_bytes())?;
                // pathname, bpf_fd and file_flags.
                let attributes = [
                    sys::pointer(path.as_ptr()),
                    sys::pair(link.as_raw_fd() as u32, 0),
                ];
                sys::call(Command::ObjPin, &attributes)?;
            }
        }
        Ok(())
    }
}

/// Maps that the programs fill in and that outlive a daemon: whose the open sockets are, and which connections wait to be accepted.
/// With the sizes of their keys and values: what another version has made differently is not taken over, and who changes what the
/// bytes mean has to change the name.
const KEPT: [(&str, MapType, usize, usize); 2] = [
    (
        names::SOCKETS,
        MapType::SkStorage,
        size_of::<i32>(),
        size_of::<SocketState>(),
    ),
    (
        names::FLOWS,
        MapType::LruHash,
        size_of::<FlowKey>(),
        size_of::<Flow>(),
    ),
];

/// Makes the maps and prepares the programs for the sessions below `agents`. What the programs of an earlier daemon know of sockets is
/// taken over from the pins in `maps`.
///
/// # Errors
/// When the kernel does not make the maps.
pub fn load(agents: &AgentsCgroup, maps: &Path) -> anyhow::Result<Ebpf> {
    // Before kernel 5.11, maps count against this limit; after it, failing to lift it does not matter.
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("cannot lift the limit on locked memory: {errno}");
    }
    let mut loader = EbpfLoader::new();
    loader
        .override_global(names::AGENTS_ID, &agents.id, true)
        .override_global(names::AGENTS_LEVEL, &agents.level, true);
    for (name, kind, key, value) in KEPT {
        let pin = maps.join(name);
        if MapInfo::from_pin(&pin).is_ok_and(|info| has_shape(&info, kind, key, value)) {
            loader.map_pin_path(name, pin);
        }
    }
    loader.load(OBJECT).context("the kernel does not take Holdpoint's BPF maps; it takes root (CAP_BPF, CAP_NET_ADMIN) and Linux 5.10 or newer")
}

fn has_shape(info: &MapInfo, kind: MapType, key: usize, value: usize) -> bool {
    info.map_type().is_ok_and(|found| found == kind)
        && info.key_size() as usize == key
        && info.value_size() as usize == value
}

/// Attaches all programs at `cgroup2_root`.
///
/// # Errors
/// When the kernel refuses a program, or to attach it.
pub fn attach(ebpf: &mut Ebpf, cgroup2_root: &Path) -> anyhow::Result<Vec<Attached>> {
    let cgroup = File::open(cgroup2_root)
        .with_context(|| format!("cannot open the cgroup2 root {}", cgroup2_root.display()))?;
    PROGRAMS
        .into_iter()
        .map(|(program, attach_type)| {
            let link = attach_one(ebpf, program, &cgroup)
                .with_context(|| format!("cannot attach the BPF program {program}"))?;
            Ok(Attached {
                program,
                attach_type,
                link,
            })
        })
        .collect()
}

fn attach_one(ebpf: &mut Ebpf, name: &str, cgroup: &File) -> anyhow::Result<Link> {
    // Links always stand beside others; the flag that says so is for the older way of attaching.
    let mode = CgroupAttachMode::Single;
    let program = ebpf
        .program_mut(name)
        .context("the BPF object does not have it")?;
    macro_rules! attach {
        ($program:expr $(, $attach_type:expr)?) => {{
            $program.load()?;
            let id = $program.attach(cgroup, $($attach_type,)? mode)?;
            Link::Aya($program.take_link(id)?.try_into()?)
        }};
    }
    Ok(match program {
        Program::CgroupSockAddr(program) => attach!(program),
        Program::CgroupSock(program) => attach!(program),
        Program::SockOps(program) => attach!(program),
        Program::CgroupSockopt(program) => {
            program.load()?;
            Link::Raw(attach_setsockopt(program.fd()?.as_fd(), cgroup)?)
        }
        Program::CgroupSkb(program) => {
            let attach_type = match name {
                "ingress" => CgroupSkbAttachType::Ingress,
                _ => CgroupSkbAttachType::Egress,
            };
            attach!(program, attach_type)
        }
        other => anyhow::bail!("it has the unexpected type {:?}", other.prog_type()),
    })
}

fn attach_setsockopt(program: BorrowedFd<'_>, cgroup: &File) -> io::Result<OwnedFd> {
    /// `enum bpf_attach_type` of linux/bpf.h.
    const BPF_CGROUP_SETSOCKOPT: u32 = 22;

    // prog_fd and target_fd, then attach_type and flags.
    let attributes = [
        sys::pair(program.as_raw_fd() as u32, cgroup.as_raw_fd() as u32),
        sys::pair(BPF_CGROUP_SETSOCKOPT, 0),
    ];
    sys::open(Command::LinkCreate, &attributes)
}
