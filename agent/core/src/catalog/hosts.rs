//! The names one service is reached by.
//!
//! Beside the root URL's host: `SERVICE.mtls.googleapis.com` (AIP-4114), `LOCATION-SERVICE.googleapis.com` and
//! `SERVICE.LOCATION.rep.googleapis.com` (regional endpoints), `SERVICE-NAME.p.googleapis.com` (Private Service
//! Connect) and `BUCKET.storage.googleapis.com` (<https://cloud.google.com/storage/docs/request-endpoints>).

use super::{Catalog, Service};

/// Under these names Google answers API calls. What is reached there and is not recognised is `google.unknown`.
/// Names that lead to other people's content (`run.app`, `googleusercontent.com`) are not among them: no credential
/// of ours may go there.
const API_DOMAINS: [&str; 6] = [
    "googleapis.com",
    "clients6.google.com",
    "accounts.google.com",
    "gcr.io",
    "pkg.dev",
    "cloudproxy.app",
];

/// Locations that are no region.
const MULTI_REGIONS: [&str; 4] = ["us", "eu", "asia", "global"];

/// A service by one of its names.
#[derive(Clone)]
pub struct Endpoint<'c> {
    /// What is served there.
    pub service: &'c Service,
    /// The location that the name holds.
    pub location: Option<String>,
    /// The bucket that the name holds.
    pub bucket: Option<String>,
}

impl Catalog {
    /// Whether Holdpoint opens and recognises what is sent to this host: a host of some discovery document, its
    /// regional, mtls and private forms, and any other name under Google's API domains.
    #[must_use]
    pub fn is_google_host(&self, host: &str) -> bool {
        let Some(host) = normal_host(host) else {
            return false;
        };
        let under = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        API_DOMAINS.iter().any(|domain| under(domain)) || self.services.contains_key(host.as_str())
    }

    /// What is served at a host, given as [`normal_host`] gives it. `None` for a host whose API is not known, even if
    /// it is Google's.
    #[must_use]
    pub fn endpoint(&self, host: &str) -> Option<Endpoint<'_>> {
        if let Some(service) = self.services.get(host) {
            return Some(Endpoint::of(service));
        }
        let name = host.strip_suffix(".googleapis.com")?;
        if let Some(bucket) = name.strip_suffix(".storage") {
            return Some(Endpoint {
                bucket: Some(bucket.to_owned()),
                ..Endpoint::of(self.services.get("storage.googleapis.com")?)
            });
        }
        if let Some(private) = name.strip_suffix(".p") {
            return self.private(private).map(Endpoint::of);
        }
        let name = name.strip_suffix(".mtls").unwrap_or(name);
        if let Some(regional) = name.strip_suffix(".rep") {
            let (name, location) = regional.rsplit_once('.')?;
            return self.at_location(name, location);
        }
        if let Some(service) = self.service(name) {
            return Some(Endpoint::of(service));
        }
        let dashes = name.match_indices('-');
        dashes
            .into_iter()
            .find_map(|(place, _)| self.at_location(&name[place + 1..], &name[..place]))
    }

    fn at_location(&self, name: &str, location: &str) -> Option<Endpoint<'_>> {
        self.is_location(location).then_some(())?;
        Some(Endpoint {
            location: Some(location.to_owned()),
            ..Endpoint::of(self.service(name)?)
        })
    }

    fn service(&self, name: &str) -> Option<&Service> {
        let host = format!("{name}.googleapis.com");
        let host = self.aliases.get(name).copied().unwrap_or(&host);
        self.services.get(host)
    }

    /// `SERVICE-NAME`, where only one reading names a service.
    fn private(&self, name: &str) -> Option<&Service> {
        let name = name.strip_suffix(".mtls").unwrap_or(name);
        let mut readings = name
            .match_indices('-')
            .filter_map(|(place, _)| self.service(&name[..place]));
        let service = readings.next()?;
        readings.next().is_none().then_some(service)
    }

    /// Known, or spelled as every region is: `us-central1`, `northamerica-northeast2`.
    fn is_location(&self, text: &str) -> bool {
        self.locations.contains(text) || MULTI_REGIONS.contains(&text) || is_region(text)
    }
}

impl<'c> Endpoint<'c> {
    fn of(service: &'c Service) -> Self {
        Self {
            service,
            location: None,
            bucket: None,
        }
    }
}

fn is_region(text: &str) -> bool {
    let Some((area, place)) = text.split_once('-') else {
        return false;
    };
    let direction = place.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    is_word(area) && is_word(direction) && (1..=2).contains(&(place.len() - direction.len()))
}

/// A host name in lower case without a trailing dot. `None` if it is none: RFC 1123 letters, digits, hyphens and
/// dots, and the underscore that bucket names may hold; at most 253 characters.
#[must_use]
pub fn normal_host(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(legal)
    };
    let legal = host.len() <= 253 && host.split('.').all(is_label);
    legal.then(|| host.to_ascii_lowercase())
}
