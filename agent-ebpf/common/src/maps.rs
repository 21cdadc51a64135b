use crate::Endpoint;

/// Where a session's own listeners are, on 127.0.0.1 and ::1 of its network namespace. Host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPorts {
    /// The proxy: every TCP connection.
    pub proxy: u16,
    /// The resolver: port 53, UDP and TCP.
    pub dns: u16,
}

/// What a redirected socket asked for, by its cookie, for as long as the socket lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id of the session's cgroup.
    pub session: u64,
    /// What was asked for, and by whom.
    pub flow: Flow,
    /// The listener it was sent to instead.
    pub listener: Endpoint,
    reserved: u32,
}

impl Origin {
    /// What a process of `session` asked for and got `listener` instead of.
    #[inline(always)]
    #[must_use]
    pub const fn new(session: u64, flow: Flow, listener: Endpoint) -> Self {
        Self {
            session,
            flow,
            listener,
            reserved: 0,
        }
    }
}

/// A redirected TCP connection as the listener sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The id of the session's cgroup: two sessions may have the same addresses and ports.
    pub session: u64,
    /// The client's end.
    pub client: Endpoint,
    /// The listener's end.
    pub listener: Endpoint,
}

/// What the listener learns about a redirected TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The address and port that were asked for.
    pub destination: Endpoint,
    /// The process that asked (thread group id in the initial pid namespace).
    pub pid: u32,
}

// The same on both sides of the map, and without the padding that the verifier takes for a leak.
const _: () = {
    assert!(size_of::<SessionPorts>() == 4);
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<Origin>() == 8 + 24 + 20 + 4);
    assert!(size_of::<FlowKey>() == 8 + 20 + 20);
    assert!(size_of::<Flow>() == 20 + 4);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Flow, FlowKey, Origin, SessionPorts};

    // SAFETY: repr(C), no padding (asserted above), any bit pattern is valid.
    unsafe impl aya::Pod for SessionPorts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Origin {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
}
