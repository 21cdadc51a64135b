//! Connects as often as it is told to, in a session mostly, leaving every connection at once. Prints what came of it as one line of JSON.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use nix::sys::{
    resource::{UsageWho, getrusage},
    socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt},
    time::TimeValLike as _,
};
use serde_json::json;

/// Connects, and lets go.
#[derive(Parser)]
struct Args {
    /// What to connect.
    kind: Kind,
    /// Connects a second, at most.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// How long.
    #[arg(long)]
    seconds: u64,
    /// Where to, if not to where the kind says.
    #[arg(long)]
    to: Option<SocketAddrV4>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// TCP to an address that means nothing to anybody: accepted by the proxy, and found to be closed.
    Tcp,
    /// UDP to a resolver.
    Udp,
    /// UDP to elsewhere: refused by the kernel.
    Refused,
}

impl Kind {
    fn target(self) -> SockaddrIn {
        let nobody = Ipv4Addr::new(203, 0, 113, 9);
        let (address, port) = match self {
            Self::Tcp => (nobody, 443),
            Self::Udp => (Ipv4Addr::new(8, 8, 8, 8), 53),
            Self::Refused => (nobody, 443),
        };
        SocketAddrV4::new(address, port).into()
    }

    fn socket(self) -> nix::Result<OwnedFd> {
        let kind = match self {
            Self::Tcp => SockType::Stream,
            Self::Udp | Self::Refused => SockType::Datagram,
        };
        let made = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
        // A reset instead of an orderly end: no port is kept for a minute after.
        let hard = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&made, sockopt::Linger, &hard)?;
        Ok(made)
    }
}

fn main() {
    let args = Args::parse();
    let target = args.to.map_or_else(|| args.kind.target(), SockaddrIn::from);
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    let begin = Instant::now();
    let mut attempts = 0_u32;
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        let due = begin + Duration::from_secs(1) * attempts / args.rate;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        let started = Instant::now();
        let outcome = args
            .kind
            .socket()
            .and_then(|socket| connect(socket.as_raw_fd(), &target));
        slowest = slowest.max(started.elapsed());
        let outcome = match outcome {
            Ok(()) => "connected".to_owned(),
            Err(errno) => io::Error::from(errno).kind().to_string(),
        };
        *outcomes.entry(outcome).or_default() += 1;
        attempts += 1;
    }
    let per_second = f64::from(attempts) / begin.elapsed().as_secs_f64();
    let slowest_us = slowest.as_micros() as u64;
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("it is about this process");
    let processor_us = (used.user_time() + used.system_time()).num_microseconds();
    println!(
        "{}",
        json!({
            "attempts": attempts,
            "per_second": per_second,
            "outcomes": outcomes,
            "slowest_us": slowest_us,
            "processor_us": processor_us,
        })
    );
}
