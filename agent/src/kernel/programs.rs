//! The committed object, loaded and attached.

use std::{fs::File, path::Path};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupAttachMode, Program, links::FdLink},
};
use holdpoint_ebpf_common::names;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::AgentsCgroup;

/// Built from `agent-ebpf` by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("holdpoint.bpf.o");

/// Every program in the object, and what `bpftool` calls its place.
pub const PROGRAMS: [(&str, &str); 12] = [
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
    ("sock_release", "cgroup_inet_sock_release"),
];

/// A program that runs for as long as `link` is held or pinned.
pub struct Attached {
    pub program: &'static str,
    pub attach_type: &'static str,
    pub link: FdLink,
}

/// Makes the maps and prepares the programs for the sessions below `agents`.
///
/// # Errors
/// When the kernel does not make the maps.
pub fn load(agents: &AgentsCgroup) -> anyhow::Result<Ebpf> {
    // Before kernel 5.11, maps count against this limit; after it, failing to lift it does not matter.
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("cannot lift the limit on locked memory: {errno}");
    }
    EbpfLoader::new()
        .override_global(names::AGENTS_ID, &agents.id, true)
        .override_global(names::AGENTS_LEVEL, &agents.level, true)
        .load(OBJECT)
        .context("the kernel does not take Holdpoint's BPF maps; it takes root (CAP_BPF, CAP_NET_ADMIN) and Linux 5.10 or newer")
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

fn attach_one(ebpf: &mut Ebpf, name: &str, cgroup: &File) -> anyhow::Result<FdLink> {
    // Links always stand beside others; the flag that says so is for the older way of attaching.
    let mode = CgroupAttachMode::Single;
    let program = ebpf
        .program_mut(name)
        .context("the BPF object does not have it")?;
    macro_rules! attach {
        ($program:expr $(, $attach_type:expr)?) => {{
            $program.load()?;
            let id = $program.attach(cgroup, $($attach_type,)? mode)?;
            $program.take_link(id)?.try_into()?
        }};
    }
    Ok(match program {
        Program::CgroupSockAddr(program) => attach!(program),
        Program::CgroupSock(program) => attach!(program),
        Program::SockOps(program) => attach!(program),
        Program::CgroupSkb(program) => {
            attach!(program, aya::programs::CgroupSkbAttachType::Egress)
        }
        other => anyhow::bail!("it has the unexpected type {:?}", other.prog_type()),
    })
}
