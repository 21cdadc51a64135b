//! Whether address ranges let the whole internet in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is not on the public internet (IANA special-purpose address registry); it need not be covered.
const NOT_PUBLIC: [(Ipv4Addr, u32); 9] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Global unicast IPv6 is 2000::/3 (RFC 4291).
const V6_PUBLIC: (u128, u128) = (0x2000 << 112, (0x4000 << 112) - 1);

/// As good as all: what is left out is smaller than one part in 256.
const HOLE: u128 = 256;

/// Whether these ranges, taken together, cover the public internet of IPv4 or of IPv6, but for a hole too small to
/// matter. A range that cannot be read counts as all: it is not known to be less.
pub(super) fn cover_internet<'a>(ranges: impl IntoIterator<Item = &'a str>) -> bool {
    let mut v4: Vec<(u128, u128)> = NOT_PUBLIC
        .iter()
        .map(|(address, bits)| span(u32::from(*address).into(), *bits, 32))
        .collect();
    let mut v6 = Vec::new();
    for range in ranges {
        match parse(range) {
            Some((IpAddr::V4(address), bits)) => v4.push(span(u32::from(address).into(), bits, 32)),
            Some((IpAddr::V6(address), bits)) => match (address.to_ipv4_mapped(), bits) {
                (Some(v4_address), 96..) => {
                    v4.push(span(u32::from(v4_address).into(), bits - 96, 32))
                }
                _ => v6.push(span(address.into(), bits, 128)),
            },
            None => return true,
        }
    }
    uncovered(v4, (0, u32::MAX.into())) < (1 << 32) / HOLE
        || uncovered(v6, V6_PUBLIC) < (V6_PUBLIC.1 - V6_PUBLIC.0) / HOLE
}

fn span(address: u128, bits: u32, width: u32) -> (u128, u128) {
    let size = if bits == 0 && width == 128 {
        u128::MAX
    } else {
        (1 << (width - bits)) - 1
    };
    let first = address & !size;
    (first, first | size)
}

/// How much of `whole` no range holds.
fn uncovered(mut ranges: Vec<(u128, u128)>, whole: (u128, u128)) -> u128 {
    ranges.sort_unstable();
    let (mut next, last) = whole;
    let mut missing = 0;
    for (from, to) in ranges {
        if from > last || to < next {
            continue;
        }
        missing += from.saturating_sub(next);
        if to >= last {
            return missing;
        }
        next = to + 1;
    }
    missing + (last - next) + 1
}

/// `10.0.0.0/8`, `10/8`, `::/0`, a single address, or a netmask behind the slash.
fn parse(text: &str) -> Option<(IpAddr, u32)> {
    let text = text.trim();
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    if let Ok(address) = address.parse::<Ipv6Addr>() {
        let bits = bits.map_or(Some(128), |bits| bits.parse().ok())?;
        return (bits <= 128).then_some((address.into(), bits));
    }
    let address = short_v4(address)?;
    let bits = match bits {
        None => 32,
        Some(mask) if mask.contains('.') => {
            u32::from(mask.parse::<Ipv4Addr>().ok()?).leading_ones()
        }
        Some(bits) => bits.parse().ok()?,
    };
    (bits <= 32).then_some((address.into(), bits))
}

/// An IPv4 address of which trailing zeros may be left out.
fn short_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        match parts.next() {
            Some(part) => *octet = part.parse().ok()?,
            None => break,
        }
    }
    parts.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_internet_however_it_is_spelled() {
        for open in [
            &["0.0.0.0/0"][..],
            &["0/0"],
            &["0.0/0"],
            &["10.1.2.3/0"],
            &["0.0.0.0/0.0.0.0"],
            &["::/0"],
            &["0::/0"],
            &["::0/0"],
            &["2000::/3"],
            &["::ffff:0:0/96"],
            &["0.0.0.0/1", "128.0.0.0/1"],
            &["128.0.0.0/1", "64.0.0.0/2", "0.0.0.0/2"],
            &[
                "1.0.0.0/8",
                "2.0.0.0/7",
                "4.0.0.0/6",
                "8.0.0.0/5",
                "16.0.0.0/4",
                "32.0.0.0/3",
                "64.0.0.0/2",
                "128/1",
            ],
            &["::/1", "8000::/1"],
            &["10.0.0.0/8", "0.0.0.0/0"],
            &["everything"],
        ] {
            assert!(cover_internet(open.iter().copied()), "{open:?}");
        }
    }

    #[test]
    fn what_is_less_than_the_internet() {
        for closed in [
            &["10.0.0.0/8"][..],
            &[],
            &["1.2.3.4"],
            &["0.0.0.0/1"],
            &["fd00::/8"],
            &["35.235.240.0/20", "2600::/16"],
        ] {
            assert!(!cover_internet(closed.iter().copied()), "{closed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(ranges in proptest::collection::vec("[0-9a-f:./]{0,20}", 0..5)) {
            let _ = cover_internet(ranges.iter().map(String::as_str));
        }

        #[test]
        fn splitting_a_range_changes_nothing(address: u32, bits in 0..32_u32) {
            let (from, to) = span(address.into(), bits, 32);
            let half = from + (to - from) / 2 + 1;
            let split = vec![span(from, bits + 1, 32), span(half, bits + 1, 32)];
            prop_assert_eq!(uncovered(split, (from, to)), 0);
        }
    }
}
