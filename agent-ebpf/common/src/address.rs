use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address and a port. IPv4 is kept in its v4-mapped IPv6 form, so that one socket has one form whatever
/// family it was asked for in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address's 16 octets in network order, as the four words BPF contexts hand out.
    pub address: [u32; 4],
    /// The port, in host byte order.
    pub port: u16,
    /// Part of keys: never left uninitialised.
    reserved: u16,
}

const MAPPED_PREFIX: u32 = 0xffff_u32.to_be();
const LOOPBACK_V4: u32 = 0x7f00_0001_u32.to_be();

impl Endpoint {
    /// No address and no port.
    pub const NONE: Self = Self::new([0; 4], 0);

    /// An endpoint from an address's four words.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: [u32; 4], port: u16) -> Self {
        Self {
            address,
            port,
            reserved: 0,
        }
    }

    /// An IPv4 endpoint; `address` in network order.
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self::new([0, 0, MAPPED_PREFIX, address], port)
    }

    /// Whether this is IPv4, mapped or not.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.address[0] == 0 && self.address[1] == 0 && self.address[2] == MAPPED_PREFIX
    }

    /// Whether connecting there stays on the host: 127.0.0.0/8, ::1, and the unspecified addresses, which Linux takes for loopback.
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        let [first, second, third, last] = self.address;
        if self.is_v4() {
            return last == 0 || u32::from_be(last) >> 24 == 127;
        }
        first == 0 && second == 0 && third == 0 && (last == 0 || last == 1_u32.to_be())
    }

    /// Whether this is the address that means "any", and loopback where it is connected to.
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        let [first, second, third, last] = self.address;
        first == 0 && second == 0 && last == 0 && (third == 0 || third == MAPPED_PREFIX)
    }

    /// Whether this is in the IPv6 network of `prefix` (the upper 64 bits, host byte order) with `length` of at most 64 bits.
    #[inline(always)]
    pub(crate) const fn is_in_v6(&self, prefix: u64, length: u32) -> bool {
        let [first, second, _, _] = self.address;
        let upper = (u32::from_be(first) as u64) << 32 | u32::from_be(second) as u64;
        (upper ^ prefix) >> (64 - length) == 0
    }

    /// Whether this is in the IPv4 network of `prefix` (host byte order) with `length` bits.
    #[inline(always)]
    pub(crate) const fn is_in_v4(&self, prefix: u32, length: u32) -> bool {
        self.is_v4() && (u32::from_be(self.address[3]) ^ prefix) >> (32 - length) == 0
    }

    /// The loopback address of the same family, at `port`: 127.0.0.1 (mapped where this one is) or ::1.
    #[inline(always)]
    #[must_use]
    pub const fn loopback_beside(&self, port: u16) -> Self {
        if self.is_v4() {
            return Self::v4(LOOPBACK_V4, port);
        }
        Self::new([0, 0, 0, 1_u32.to_be()], port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let word =
            |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self::new([word(0), word(4), word(8), word(12)], address.port())
    }
}

impl From<Endpoint> for SocketAddr {
    /// Mapped addresses come out as IPv4.
    fn from(endpoint: Endpoint) -> Self {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(endpoint.address) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Self::new(Ipv6Addr::from(octets).to_canonical(), endpoint.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>()
            .expect("a socket address in the test")
            .into()
    }

    #[test]
    fn mapped_and_plain_ipv4_are_one() {
        assert_eq!(
            endpoint("192.0.2.1:443"),
            endpoint("[::ffff:192.0.2.1]:443")
        );
        assert_eq!(
            Endpoint::v4(u32::from_ne_bytes([192, 0, 2, 1]), 443),
            endpoint("192.0.2.1:443")
        );
    }

    #[test]
    fn back_and_forth() {
        for text in ["192.0.2.1:443", "[2001:db8::1]:53", "127.0.0.1:1"] {
            let address: SocketAddr = text.parse().expect("a socket address");
            assert_eq!(SocketAddr::from(Endpoint::from(address)), address);
        }
    }

    #[test]
    fn loopback_is_all_of_it_and_nothing_else() {
        for text in [
            "127.0.0.1:1",
            "127.255.255.254:1",
            "0.0.0.0:1",
            "[::1]:1",
            "[::]:1",
            "[::ffff:127.0.0.2]:1",
            "[::ffff:0.0.0.0]:1",
        ] {
            assert!(endpoint(text).is_loopback(), "{text}");
        }
        for text in [
            "126.255.255.255:1",
            "128.0.0.0:1",
            "0.0.0.1:1",
            "1.0.0.127:1",
            "[::2]:1",
            "[::7f00:1]:1",
            "[1::1]:1",
            "[0:0:0:1::1]:1",
            "[::ffff:0:127.0.0.1]:1",
        ] {
            assert!(!endpoint(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn the_unspecified_addresses_are_two_and_their_mapped_form() {
        for text in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1"] {
            assert!(endpoint(text).is_unspecified(), "{text}");
        }
        for text in ["127.0.0.1:1", "[::1]:1", "[1::]:1", "0.0.0.1:1"] {
            assert!(!endpoint(text).is_unspecified(), "{text}");
        }
    }

    #[test]
    fn the_listener_is_of_the_family_that_was_asked_for() {
        let listener = |text| endpoint(text).loopback_beside(15001);
        assert_eq!(listener("192.0.2.1:443"), endpoint("127.0.0.1:15001"));
        assert_eq!(listener("[2001:db8::1]:443"), endpoint("[::1]:15001"));
    }
}
