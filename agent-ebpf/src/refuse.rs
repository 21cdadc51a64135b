//! Says no: counts it, and tells the loader who asked for what.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_comm, generated::bpf_ktime_get_ns},
};
use holdpoint_ebpf_common::{DropEvent, Endpoint, Process, Refusal};

use crate::{
    REFUSE,
    maps::{count, publish},
};

/// What was tried.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub session: u64,
    pub process: Process,
    pub family: u16,
    pub protocol: u8,
    /// Not an `Option`: of a value that does not count the compiler reads what was never written, which the verifier of 5.10 refuses.
    pub destination: Endpoint,
    pub has_destination: bool,
}

impl Attempt {
    #[inline(always)]
    pub fn refuse(&self, refusal: Refusal) -> i32 {
        count(refusal);
        publish(&DropEvent {
            // SAFETY: takes no pointer.
            at: unsafe { bpf_ktime_get_ns() },
            session: self.session,
            destination: self.destination,
            process: self.process,
            reason: refusal as u32,
            family: self.family,
            protocol: self.protocol,
            has_destination: u8::from(self.has_destination),
        });
        REFUSE
    }
}

/// The process in whose context a hook runs.
#[inline(always)]
pub fn current(ctx: &impl EbpfContext) -> Process {
    Process {
        pid: ctx.tgid(),
        command: bpf_get_current_comm().unwrap_or([0; 16]),
    }
}
