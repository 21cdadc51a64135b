//! How much one address may ask for. No IO, no clock.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Requests of one address in each window.
const REQUESTS: u32 = 120;
const WINDOW: Duration = Duration::from_secs(60);
/// Connections of one address at once.
const CONNECTIONS: u32 = 16;
/// Addresses that are known at once; further ones are turned away.
const ADDRESSES: usize = 4096;

/// What the addresses that ask have taken up.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<IpAddr, Use>>);

struct Use {
    since: Instant,
    requests: u32,
    open: u32,
}

impl Limits {
    /// Takes up a connection with its one request, unless that is too much.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Option<Admitted<'_>> {
        let address = network(address);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES {
            known.retain(|_, it| it.open > 0 || now.duration_since(it.since) < WINDOW);
        }
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            return None;
        }
        let usage = known.entry(address).or_insert(Use {
            since: now,
            requests: 0,
            open: 0,
        });
        if now.duration_since(usage.since) >= WINDOW {
            (usage.since, usage.requests) = (now, 0);
        }
        if usage.requests >= REQUESTS || usage.open >= CONNECTIONS {
            return None;
        }
        usage.requests += 1;
        usage.open += 1;
        Some(Admitted {
            limits: self,
            address,
        })
    }
}

/// One open connection.
pub(super) struct Admitted<'a> {
    limits: &'a Limits,
    address: IpAddr,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut known = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = known.get_mut(&self.address) {
            usage.open = usage.open.saturating_sub(1);
        }
    }
}

/// Whoever has an IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_others_out() {
        let (limits, now) = (Limits::default(), Instant::now());
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let open: Vec<_> = (0..20).filter_map(|_| limits.admit(a, now)).collect();
        assert_eq!(open.len(), CONNECTIONS as usize);
        assert!(limits.admit(b, now).is_some());
        drop(open);
        let more = (0..500).filter(|_| limits.admit(a, now).is_some()).count();
        assert_eq!(more, (REQUESTS - CONNECTIONS) as usize);
        assert!(limits.admit(a, now + WINDOW).is_some());
    }

    #[test]
    fn neighbours_in_one_network_are_one() {
        let (limits, now) = (Limits::default(), Instant::now());
        let admitted = (0..200_u16).filter(|last| {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, *last);
            limits.admit(address.into(), now).is_some()
        });
        assert_eq!(admitted.count(), REQUESTS as usize);
    }
}
