//! What the programs refused, one by one, as they tell it in a ring buffer.

use std::{
    io,
    mem::offset_of,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::Mutex,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use holdpoint_ebpf_common::{DropEvent, Endpoint, Process, Refusal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::OnceCell,
};

/// One refusal. Names are as the process chose them, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Refusal,
    /// The id of the session's cgroup, or of a cgroup that is in no session. 0: not known.
    pub session: u64,
    /// The process, as the initial pid namespace knows it. Of packets and socket options, the one that made the socket. 0: not known.
    pub pid: u32,
    /// The name of its thread.
    pub command: String,
    /// Where to; of binds and packets that came in, at or from where. v4-mapped addresses are IPv4 here.
    pub destination: Option<SocketAddr>,
    /// The IP protocol's number (IANA): 6 is TCP, 17 UDP. 0: not known.
    pub protocol: u8,
    /// The socket's address family (AF_INET, AF_INET6). 0: not known.
    pub family: u16,
    /// When, on CLOCK_MONOTONIC.
    pub at: Duration,
}

impl Refused {
    /// From what the ring buffer holds: a [`DropEvent`]'s bytes. `None`: they are something else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<DropEvent>() {
            return None;
        }
        const PROCESS: usize = offset_of!(DropEvent, process);
        const PID: usize = PROCESS + offset_of!(Process, pid);
        const COMMAND: usize = PROCESS + offset_of!(Process, command);
        let reason = word(bytes, offset_of!(DropEvent, reason))?;
        let command: [u8; 16] = array(bytes, COMMAND)?;
        let has_destination = bytes[offset_of!(DropEvent, has_destination)] == 1;
        Some(Self {
            reason: *Refusal::ALL.get(usize::try_from(reason).ok()?)?,
            session: u64::from_ne_bytes(array(bytes, offset_of!(DropEvent, session))?),
            pid: word(bytes, PID)?,
            command: name(&command),
            destination: match has_destination {
                true => Some(endpoint(bytes, offset_of!(DropEvent, destination))?.into()),
                false => None,
            },
            protocol: bytes[offset_of!(DropEvent, protocol)],
            family: u16::from_ne_bytes(array(bytes, offset_of!(DropEvent, family))?),
            at: Duration::from_nanos(u64::from_ne_bytes(array(bytes, offset_of!(DropEvent, at))?)),
        })
    }
}

fn endpoint(bytes: &[u8], at: usize) -> Option<Endpoint> {
    let words = [
        word(bytes, at)?,
        word(bytes, at + 4)?,
        word(bytes, at + 8)?,
        word(bytes, at + 12)?,
    ];
    let port = at + offset_of!(Endpoint, port);
    Some(Endpoint::new(
        words,
        u16::from_ne_bytes(array(bytes, port)?),
    ))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn name(command: &[u8]) -> String {
    let end = command.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&command[..end.unwrap_or(command.len())])
        .chars()
        .map(|character| match character.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => character,
        })
        .collect()
}

/// The ring buffer's reading end.
pub(super) struct Drops {
    buffer: Mutex<RingBuf<MapData>>,
    // Made when somebody waits: that takes a runtime.
    readable: OnceCell<AsyncFd<OwnedFd>>,
}

impl Drops {
    pub(super) fn new(buffer: RingBuf<MapData>) -> Self {
        Self {
            buffer: Mutex::new(buffer),
            readable: OnceCell::new(),
        }
    }

    /// The next one that is there.
    pub(super) fn ready(&self) -> Option<Refused> {
        let mut buffer = self.buffer.lock().expect("no panic while locked");
        while let Some(event) = buffer.next() {
            if let Some(refused) = Refused::parse(&event) {
                return Some(refused);
            }
        }
        None
    }

    /// The next one.
    pub(super) async fn next(&self) -> io::Result<Refused> {
        let readable = self.readable.get_or_try_init(|| async { self.wait() });
        let readable = readable.await?;
        loop {
            let mut guard = readable.readable().await?;
            if let Some(refused) = self.ready() {
                return Ok(refused);
            }
            guard.clear_ready();
        }
    }

    fn wait(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let buffer = self.buffer.lock().expect("no panic while locked");
        let fd = buffer.as_fd().try_clone_to_owned()?;
        // SAFETY: it owns the descriptor and keeps it for as long as it lives.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(event: &DropEvent) -> [u8; size_of::<DropEvent>()] {
        // SAFETY: repr(C) without padding (its size is asserted to be the sum of its fields').
        unsafe { std::mem::transmute(*event) }
    }

    fn event(reason: u32) -> DropEvent {
        let destination: SocketAddr = "192.0.2.1:443".parse().expect("an address");
        DropEvent {
            at: 5_000_000_007,
            session: 77,
            destination: destination.into(),
            process: Process {
                pid: 4711,
                command: *b"cu\nrl\0\0\0\0\0\0\0\0\0\0\0",
            },
            reason,
            family: 2,
            protocol: 17,
            has_destination: 1,
        }
    }

    #[test]
    fn an_event_says_who_wanted_what() {
        let refused = Refused::parse(&bytes(&event(Refusal::Quic as u32))).expect("an event");
        assert_eq!(
            refused,
            Refused {
                reason: Refusal::Quic,
                session: 77,
                pid: 4711,
                command: "cu\u{fffd}rl".into(),
                destination: Some("192.0.2.1:443".parse().expect("an address")),
                protocol: 17,
                family: 2,
                at: Duration::new(5, 7),
            }
        );
    }

    #[test]
    fn no_destination_is_none_and_an_unknown_reason_no_event() {
        let nowhere = DropEvent {
            has_destination: 0,
            ..event(0)
        };
        let refused = Refused::parse(&bytes(&nowhere)).expect("an event");
        assert_eq!(refused.destination, None);
        let unknown = Refusal::ALL.len() as u32;
        assert_eq!(Refused::parse(&bytes(&event(unknown))), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Refused::parse(&bytes);
        }

        #[test]
        fn any_event_of_the_right_size_is_read(bytes: [u8; size_of::<DropEvent>()]) {
            let known = bytes[offset_of!(DropEvent, reason)..][..4]
                .iter()
                .rev()
                .fold(0_usize, |word, byte| word << 8 | usize::from(*byte)) < Refusal::ALL.len();
            let refused = Refused::parse(&bytes);
            prop_assert_eq!(refused.is_some(), known && cfg!(target_endian = "little"));
            if let Some(refused) = refused {
                prop_assert!(refused.command.chars().count() <= 16);
                prop_assert!(!refused.command.contains(char::is_control));
            }
        }
    }
}
