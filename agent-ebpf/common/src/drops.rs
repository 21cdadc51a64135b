use crate::Endpoint;

/// A process, as programs know it that run for somebody.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The thread group id in the initial pid namespace. 0: not known.
    pub pid: u32,
    /// The name of its thread (TASK_COMM_LEN of linux/sched.h), NUL-padded. The process may choose it.
    pub command: [u8; 16],
}

impl Process {
    /// No process in particular.
    pub const UNKNOWN: Self = Self {
        pid: 0,
        command: [0; 16],
    };
}

/// One refusal, as the ring buffer hands it out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropEvent {
    /// Nanoseconds on CLOCK_MONOTONIC.
    pub at: u64,
    /// The id of the session's cgroup, or of the stray's. 0: not known.
    pub session: u64,
    /// Where to; of a bind or a packet that came in, where from or at. Only where `has_destination` is 1.
    pub destination: Endpoint,
    /// Who.
    pub process: Process,
    /// A [`Refusal`](crate::Refusal).
    pub reason: u32,
    /// The address family of the socket (AF_INET, AF_INET6). 0: not known.
    pub family: u16,
    /// The IP protocol's number (IANA). 0: not known.
    pub protocol: u8,
    /// 0 or 1.
    pub has_destination: u8,
}

const _: () = {
    assert!(size_of::<Process>() == 20);
    assert!(size_of::<DropEvent>() == 8 + 8 + 20 + 20 + 4 + 4);
};
