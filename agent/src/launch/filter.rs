//! The system-call filter of a session: what must not even be asked of the kernel.
//!
//! It closes what meets no cgroup hook (socket families, io_uring), what would undo the session's mounts, and what
//! reaches past the session's namespaces. Everything else is left to the kernel's own checks: the command has no capability.

use std::collections::BTreeMap;

use anyhow::Context as _;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// A system call by its number and by its name.
pub type Call = (i64, &'static str);

/// Families a program may ask for. All others would meet no cgroup hook (AF_PACKET, AF_VSOCK, AF_XDP, AF_ALG, ...).
pub const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// io_uring makes sockets and connections without the system calls that are filtered here. Programs fall back on ENOSYS.
/// The kernel's keyrings: a session would have the daemon's own at hand.
pub const MISSING: [Call; 7] = [
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_io_uring_register, "io_uring_register"),
    (libc::SYS_add_key, "add_key"),
    (libc::SYS_request_key, "request_key"),
    (libc::SYS_keyctl, "keyctl"),
    // Its flags are in memory, out of a filter's sight. C libraries fall back on clone(2).
    (libc::SYS_clone3, "clone3"),
];

/// Forbidden with EPERM, as to any process without privileges.
pub const FORBIDDEN: [Call; 33] = [
    // The session's private mounts: an overlay or another procfs in a nested user namespace would look beneath them.
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_fspick, "fspick"),
    (libc::SYS_mount_setattr, "mount_setattr"),
    (OPEN_TREE_ATTR, "open_tree_attr"),
    (libc::SYS_chroot, "chroot"),
    // Opens a file whatever is mounted over it.
    (libc::SYS_open_by_handle_at, "open_by_handle_at"),
    // Out of the session's namespaces.
    (libc::SYS_setns, "setns"),
    // A descriptor of a process outside, by a pidfd that a Unix socket's peer gave away (SO_PEERPIDFD).
    (libc::SYS_pidfd_getfd, "pidfd_getfd"),
    // Kernel programs, and what measures other processes.
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    // The host's log.
    (libc::SYS_syslog, "syslog"),
    // Stops the kernel in the middle of a copy: of use to exploits of it, and to little else.
    (libc::SYS_userfaultfd, "userfaultfd"),
    // The kernel itself. No capability allows them either; here against mistakes there.
    (libc::SYS_kexec_load, "kexec_load"),
    (libc::SYS_kexec_file_load, "kexec_file_load"),
    (libc::SYS_init_module, "init_module"),
    (libc::SYS_finit_module, "finit_module"),
    (libc::SYS_delete_module, "delete_module"),
    (libc::SYS_reboot, "reboot"),
    (libc::SYS_acct, "acct"),
    (libc::SYS_swapon, "swapon"),
    (libc::SYS_swapoff, "swapoff"),
    (libc::SYS_quotactl, "quotactl"),
    (libc::SYS_quotactl_fd, "quotactl_fd"),
    (libc::SYS_vhangup, "vhangup"),
    (libc::SYS_settimeofday, "settimeofday"),
    (libc::SYS_clock_settime, "clock_settime"),
];

/// Linux 6.15; the number is the same on all machines.
const OPEN_TREE_ATTR: i64 = 467;

/// Terminal requests forbidden with EPERM: both type into a terminal as if its user had.
pub const FORBIDDEN_IOCTLS: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// The compiled filter. Every part is asked about every call; the most severe answer counts (seccomp(2)).
pub struct Filter(Vec<BpfProgram>);

impl Filter {
    /// Compiles it for the machine this runs on.
    ///
    /// # Errors
    /// On machines it is not made for.
    pub fn compile() -> anyhow::Result<Self> {
        let machine: TargetArch = std::env::consts::ARCH
            .try_into()
            .context("the system-call filter is not made for this machine")?;
        let programs = [
            (families()?, libc::EAFNOSUPPORT),
            (all(&MISSING), libc::ENOSYS),
            (forbidden()?, libc::EPERM),
            // As if done: programs that guard secrets end when they cannot set it.
            (core_limit()?, 0),
        ];
        let mut compiled = vec![x32_killed()];
        for (rules, errno) in programs {
            // Of other ABIs (i386 on x86-64, AArch32 on AArch64) seccompiler's filters kill the process.
            let answer = SeccompAction::Errno(errno as u32);
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, machine)?;
            compiled.push(filter.try_into()?);
        }
        Ok(Self(compiled))
    }

    /// Puts the calling thread and all it becomes under the filter, for good. Sets `no_new_privs`.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn apply(&self) -> anyhow::Result<()> {
        for program in &self.0 {
            apply_filter(program).context("the kernel does not take the system-call filter")?;
        }
        Ok(())
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn all(calls: &[Call]) -> Rules {
    calls.iter().map(|(call, _)| (*call, Vec::new())).collect()
}

/// The kernel looks at the lower 32 bits of these arguments only, and so must the filter.
fn compare(index: u8, operator: SeccompCmpOp, value: u64) -> anyhow::Result<SeccompCondition> {
    Ok(SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

fn families() -> anyhow::Result<Rules> {
    let unless = |families: &[i32]| {
        families
            .iter()
            .map(|family| compare(0, SeccompCmpOp::Ne, *family as u64))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let mut known = FAMILIES.to_vec();
    known.push(libc::AF_NETLINK);
    // Netlink only to read one's own interfaces and routes, as getifaddrs(3) does.
    let other_netlink = vec![
        compare(0, SeccompCmpOp::Eq, libc::AF_NETLINK as u64)?,
        compare(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE as u64)?,
    ];
    Ok(Rules::from([
        (
            libc::SYS_socket,
            vec![
                SeccompRule::new(unless(&known)?)?,
                SeccompRule::new(other_netlink)?,
            ],
        ),
        // Pairs are a thing of AF_UNIX; AF_TIPC's would be sockets of its own.
        (
            libc::SYS_socketpair,
            vec![SeccompRule::new(unless(&[libc::AF_UNIX])?)?],
        ),
    ]))
}

fn forbidden() -> anyhow::Result<Rules> {
    let mut rules = all(&FORBIDDEN);
    let ioctls = FORBIDDEN_IOCTLS
        .iter()
        .map(|request| {
            Ok(SeccompRule::new(vec![compare(
                1,
                SeccompCmpOp::Eq,
                *request,
            )?])?)
        })
        .collect::<anyhow::Result<_>>()?;
    rules.insert(libc::SYS_ioctl, ioctls);
    // With a user namespace of its own a process has every capability in it, and all namespaces for the asking.
    let new_user = libc::CLONE_NEWUSER as u64;
    for call in [libc::SYS_unshare, libc::SYS_clone] {
        let asked = compare(0, SeccompCmpOp::MaskedEq(new_user), new_user)?;
        rules.insert(call, vec![SeccompRule::new(vec![asked])?]);
    }
    Ok(rules)
}

/// Setting the limit on cores: a session's is to stay (see `credentials`). Asking for it is prlimit(2) without a new one.
fn core_limit() -> anyhow::Result<Rules> {
    let cores = |index| compare(index, SeccompCmpOp::Eq, u64::from(libc::RLIMIT_CORE));
    let new_one = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    Ok(Rules::from([
        (
            libc::SYS_setrlimit,
            vec![SeccompRule::new(vec![cores(0)?])?],
        ),
        (
            libc::SYS_prlimit64,
            vec![SeccompRule::new(vec![cores(1)?, new_one])?],
        ),
    ]))
}

/// Kills on x32 calls, which carry x86-64's audit name and a high bit in their number: they would pass as unknown ones.
/// seccompiler has no rule for a range of numbers. -1 is what a debugger makes of a call it suppresses.
fn x32_killed() -> BpfProgram {
    const X32_SYSCALL_BIT: u32 = 0x4000_0000;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    vec![
        // seccomp_data.nr
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(IF_AT_LEAST, X32_SYSCALL_BIT, 0, 2),
        instruction(IF_EQUAL, u32::MAX, 1, 0),
        instruction(ANSWER, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        instruction(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compiles_here() {
        assert_eq!(Filter::compile().expect("compiles").0.len(), 5);
    }
}
