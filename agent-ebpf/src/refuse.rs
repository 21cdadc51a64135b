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
    pub destination: Option<Endpoint>,
}

impl Attempt {
    #[inline(always)]
    pub fn refuse(&self, refusal: Refusal) -> i32 {
        count(refusal);
        publish(&DropEvent {
            // SAFETY: takes no pointer.
            at: unsafe { bpf_ktime_get_ns() },
            session: self.session,
            destination: self.destination.unwrap_or(Endpoint::NONE),
            process: self.process,
            reason: refusal as u32,
            family: self.family,
            protocol: self.protocol,
            has_destination: u8::from(self.destination.is_some()),
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
