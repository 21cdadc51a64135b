//! Public resolvers that answer over HTTPS, TLS or QUIC. What is asked there is not seen, and a name can carry data.

/// DNS over TLS (RFC 7858).
const DOT: u16 = 853;

/// Domains with nothing but resolvers below them, or nothing else that a build needs. Operators publish them:
/// <https://github.com/curl/curl/wiki/DNS-over-HTTPS> lists most, and browsers come with the first few.
const DOMAINS: &[&str] = &[
    "dns.google",
    "dns.google.com",
    "dns64.dns.google",
    "google-public-dns-a.google.com",
    "google-public-dns-b.google.com",
    "cloudflare-dns.com",
    "cloudflare-gateway.com",
    "one.one.one.one",
    "quad9.net",
    "nextdns.io",
    "opendns.com",
    "umbrella.com",
    "adguard.com",
    "adguard-dns.com",
    "adguard-dns.io",
    "cleanbrowsing.org",
    "controld.com",
    "dns.mullvad.net",
    "doh.mullvad.net",
    "dns.sb",
    "dnslify.com",
    "dns0.eu",
    "dns.alidns.com",
    "doh.pub",
    "dns.pub",
    "doh.360.cn",
    "dns.twnic.tw",
    "doh.libredns.gr",
    "wikimedia-dns.org",
    "doh.applied-privacy.net",
    "dns.digitale-gesellschaft.ch",
    "doh.xfinity.com",
    "doh.dnscrypt.info",
    "doh.dns4all.eu",
    "joindns4.eu",
    "public.dns.iij.jp",
    "rethinkdns.com",
    "dns.switch.ch",
    "doh.cox.net",
    "dns.njal.la",
    "doh.ffmuc.net",
    "doh.tiar.app",
    "dnsforge.de",
    "blahdns.com",
];

/// Whether a connection to this host (lower case, no dot at its end) and port is one to a resolver.
pub(crate) fn is_public(host: &str, port: Option<u16>) -> bool {
    let is_below = |domain: &&str| {
        host.strip_suffix(*domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    port == Some(DOT) || DOMAINS.iter().any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn resolvers_are_known_by_name_and_by_port() {
        for host in ["dns.google", "mozilla.cloudflare-dns.com", "dns9.quad9.net"] {
            assert!(
                is_public(host, Some(443)) && is_public(host, None),
                "{host}"
            );
        }
        for host in ["dns.example", "xdns.google", "google", "dns.googleapis.com"] {
            assert!(!is_public(host, Some(443)), "{host}");
            assert!(is_public(host, Some(853)), "{host}");
        }
    }

    #[test]
    fn none_of_them_passes_for_an_api_of_googles() {
        for domain in DOMAINS {
            assert!(!Catalog::built_in().is_google_host(domain), "{domain}");
        }
    }
}
