//! What a request means that no single field of it shows.

use std::collections::BTreeSet;

use http::HeaderMap;

use super::{cidr, query::Query};
use crate::{fields::Json, operation::Trait};

/// The traits of a request for the method `id`.
pub(super) fn of(
    id: &str,
    verb: &str,
    query: &Query,
    headers: &HeaderMap,
    segments: &[&str],
    json: Option<&Json>,
) -> BTreeSet<Trait> {
    let mut traits = BTreeSet::new();
    if matches!(verb, "GET" | "HEAD" | "OPTIONS") {
        return traits;
    }
    if opens(id, query, json) {
        traits.insert(Trait::OpenToInternet);
    }
    // What names mean, only the server knows; and where it is MySQL, not even what is a comment.
    if id == "sql.instances.executeSql" {
        traits.insert(Trait::Opaque);
    }
    if publishes(verb, query, headers, segments, json) {
        traits.insert(Trait::PublicAccess);
    }
    traits
}

fn opens(id: &str, query: &Query, json: Option<&Json>) -> bool {
    let Some((service, method)) = id.split_once('.') else {
        return false;
    };
    let in_query: Vec<_> = query
        .0
        .iter()
        .filter(|(name, _)| is_range_field(name))
        .collect();
    if !in_query.is_empty()
        && cidr::cover_internet(in_query.iter().map(|(_, value)| value.as_str()))
    {
        return true;
    }
    let Some(json) = json else {
        return false;
    };
    let creates = method.ends_with(".insert") || method.ends_with(".update");
    match (service, method.split('.').next()) {
        ("compute", Some("firewalls")) => firewall_opens(json, creates),
        ("compute", Some(collection))
            if collection.to_ascii_lowercase().contains("firewallpolic") =>
        {
            policy_opens(json, !method.ends_with(".patchRule"))
        }
        _ => networks_open(json),
    }
}

/// A VPC firewall (<https://cloud.google.com/compute/docs/reference/rest/v1/firewalls>). An ingress rule without any
/// source is one for everybody.
fn firewall_opens(rule: &Json, whole: bool) -> bool {
    let given = |name| {
        rule.field(name)
            .is_some_and(|value| !texts(value).is_empty())
    };
    if given("denied") && !given("allowed") {
        return false;
    }
    let ranges = rule.field("sourceRanges");
    if given("sourceRanges") {
        return ranges.is_some_and(|ranges| cidr::cover_internet(texts(ranges)));
    }
    // Present and empty takes ranges away; what is left may be everybody.
    let missing = whole || ranges.is_some();
    let other =
        given("sourceTags") || given("sourceServiceAccounts") || is(rule, "direction", "EGRESS");
    missing && !other
}

/// A firewall policy or one rule of it (<https://cloud.google.com/compute/docs/reference/rest/v1/firewallPolicies/addRule>).
fn policy_opens(json: &Json, whole: bool) -> bool {
    match json.field("rules") {
        Some(Json::Array(rules)) => rules.iter().any(|rule| rule_opens(rule, true)),
        _ => rule_opens(json, whole),
    }
}

fn rule_opens(rule: &Json, whole: bool) -> bool {
    let denies = rule
        .field("action")
        .and_then(Json::text)
        .is_some_and(|action| action.starts_with("deny"));
    let Some(matched) = rule.field("match").filter(|_| !denies) else {
        return false;
    };
    match matched.field("srcIpRanges") {
        Some(ranges) if !texts(ranges).is_empty() => cidr::cover_internet(texts(ranges)),
        _ => whole && !has_source(matched) && !is(rule, "direction", "EGRESS"),
    }
}

/// Whether a match names its sources in some way other than by address.
fn has_source(matched: &Json) -> bool {
    let Json::Object(entries) = matched else {
        return false;
    };
    entries
        .iter()
        .any(|(key, value)| key.starts_with("src") && !texts(value).is_empty())
}

/// Authorised networks, wherever a service keeps them: Cloud SQL, GKE, AlloyDB.
fn networks_open(json: &Json) -> bool {
    let mut ranges = Vec::new();
    json.each_text(&mut |path, text| {
        let under = path.iter().any(|name| is_network_field(name));
        let is_range = path.last().is_some_and(|name| {
            matches!(plain(name).as_str(), "value" | "cidrblock" | "cidrrange")
                || is_network_field(name)
        });
        if under && is_range {
            ranges.push(text);
        }
    });
    !ranges.is_empty() && cidr::cover_internet(ranges)
}

fn is_network_field(name: &str) -> bool {
    let name = plain(name);
    name.contains("authorized") && name.contains("network")
}

fn is_range_field(name: &str) -> bool {
    let name = plain(name);
    name.ends_with("sourceranges") || name.ends_with("srcipranges")
}

fn publishes(
    verb: &str,
    query: &Query,
    headers: &HeaderMap,
    segments: &[&str],
    json: Option<&Json>,
) -> bool {
    let mut public = false;
    if let Some(json) = json {
        json.each_text(&mut |path, text| {
            let name = path.last().copied().unwrap_or_default();
            public |= is_everybody(text) || (is_acl_field(name) && is_public_acl(text));
        });
    }
    let in_query = |(name, value): &(String, String)| {
        is_everybody(value) || (is_acl_field(name) && is_public_acl(value))
    };
    // `b/BUCKET/acl/allUsers`: deleting it takes the right away.
    let in_path = verb != "DELETE" && segments.iter().any(|segment| is_everybody(segment));
    let mut acls = headers.get_all("x-goog-acl").iter();
    public
        || in_path
        || query.0.iter().any(in_query)
        || acls.any(|acl| acl.to_str().is_ok_and(is_public_acl))
}

fn is_everybody(text: &str) -> bool {
    let text = text.trim();
    text.eq_ignore_ascii_case("allUsers") || text.eq_ignore_ascii_case("allAuthenticatedUsers")
}

/// `predefinedAcl`, `predefinedDefaultObjectAcl`, `destinationPredefinedAcl`.
fn is_acl_field(name: &str) -> bool {
    let name = plain(name);
    name.contains("predefined") && name.ends_with("acl")
}

/// `publicRead`, `publicReadWrite`, `authenticatedRead`, or as XML spells them, `public-read` and so on.
fn is_public_acl(value: &str) -> bool {
    let value = plain(value);
    value.starts_with("publicread") || value.starts_with("authenticatedread")
}

fn is(json: &Json, name: &str, value: &str) -> bool {
    json.field(name)
        .and_then(Json::text)
        .is_some_and(|text| text.eq_ignore_ascii_case(value))
}

fn texts(json: &Json) -> Vec<&str> {
    let mut found = Vec::new();
    json.each_text(&mut |_, text| found.push(text));
    found
}

/// Without what spellings differ in.
fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn traits(id: &str, body: &str) -> Vec<Trait> {
        let json = Json::parse(body.as_bytes()).expect("the test's JSON is good");
        of(
            id,
            "POST",
            &Query::default(),
            &HeaderMap::new(),
            &[],
            Some(&json),
        )
        .into_iter()
        .collect()
    }

    #[test]
    fn what_lets_the_internet_in() {
        for (id, body) in [
            (
                "compute.firewalls.insert",
                r#"{"allowed":[],"sourceRanges":["0.0.0.0/0"]}"#,
            ),
            (
                "compute.firewalls.insert",
                r#"{"allowed":[],"source_ranges":["0.0.0.0/1","128.0.0.0/1"]}"#,
            ),
            ("compute.firewalls.insert", r#"{"name":"x"}"#),
            (
                "compute.firewalls.update",
                r#"{"direction":"INGRESS","sourceRanges":[]}"#,
            ),
            ("compute.firewalls.patch", r#"{"sourceRanges":["::/0"]}"#),
            ("compute.firewalls.patch", r#"{"sourceRanges":[]}"#),
            (
                "compute.firewalls.patch",
                r#"{"denied":[],"sourceRanges":["0/0"]}"#,
            ),
            (
                "compute.firewalls.patch",
                r#"{"direction":"EGRESS","sourceRanges":["0/0"]}"#,
            ),
            (
                "compute.networkFirewallPolicies.addRule",
                r#"{"action":"allow","match":{"srcIpRanges":["0/0"]}}"#,
            ),
            (
                "compute.firewallPolicies.patchRule",
                r#"{"match":{"srcIpRanges":["0.0.0.0/0"]}}"#,
            ),
            (
                "compute.regionNetworkFirewallPolicies.insert",
                r#"{"rules":[{"action":"allow","direction":"INGRESS","match":{"layer4Configs":[]}}]}"#,
            ),
            (
                "sql.instances.patch",
                r#"{"settings":{"ipConfiguration":{"authorizedNetworks":[{"name":"a","value":"0.0.0.0/0"}]}}}"#,
            ),
            (
                "container.projects.locations.clusters.update",
                r#"{"update":{"desiredMasterAuthorizedNetworksConfig":{"cidrBlocks":[{"cidrBlock":"0.0.0.0/0"}]}}}"#,
            ),
        ] {
            assert_eq!(traits(id, body), [Trait::OpenToInternet], "{id} {body}");
        }
    }

    #[test]
    fn what_does_not() {
        for (id, body) in [
            (
                "compute.firewalls.insert",
                r#"{"allowed":[],"sourceRanges":["10.0.0.0/8"]}"#,
            ),
            (
                "compute.firewalls.insert",
                r#"{"allowed":[],"sourceTags":["web"]}"#,
            ),
            (
                "compute.firewalls.insert",
                r#"{"direction":"EGRESS","destinationRanges":["0.0.0.0/0"]}"#,
            ),
            (
                "compute.firewalls.insert",
                r#"{"denied":[{"IPProtocol":"all"}],"sourceRanges":["0.0.0.0/0"]}"#,
            ),
            ("compute.firewalls.patch", r#"{"description":"x"}"#),
            (
                "compute.firewallPolicies.addRule",
                r#"{"action":"deny(403)","match":{"srcIpRanges":["0/0"]}}"#,
            ),
            (
                "sql.instances.patch",
                r#"{"settings":{"ipConfiguration":{"authorizedNetworks":[{"name":"all","value":"1.2.3.4"}]}}}"#,
            ),
            ("compute.routes.insert", r#"{"destRange":"0.0.0.0/0"}"#),
        ] {
            assert_eq!(traits(id, body), [], "{id} {body}");
        }
    }

    #[test]
    fn what_publishes() {
        for body in [
            r#"{"bindings":[{"role":"r","members":["allUsers"]}]}"#,
            r#"{"policy":{"bindings":[{"members":["user:a","allAuthenticatedUsers"]}]}}"#,
            r#"{"entity":"allUsers","role":"READER"}"#,
            r#"{"access":[{"specialGroup":"allAuthenticatedUsers"}]}"#,
            r#"{"predefinedAcl":"publicRead"}"#,
        ] {
            assert_eq!(
                traits("storage.buckets.insert", body),
                [Trait::PublicAccess],
                "{body}"
            );
        }
        let query =
            Query::parse(b"predefinedDefaultObjectAcl=publicReadWrite").expect("it is fine");
        let none = HeaderMap::new();
        assert!(publishes("POST", &query, &none, &[], None));
        let mut headers = HeaderMap::new();
        headers.insert("x-goog-acl", HeaderValue::from_static("public-read"));
        assert!(publishes("PUT", &Query::default(), &headers, &[], None));
        assert!(publishes(
            "PUT",
            &Query::default(),
            &none,
            &["b", "x", "acl", "allUsers"],
            None
        ));
        assert!(!publishes(
            "DELETE",
            &Query::default(),
            &none,
            &["b", "x", "acl", "allUsers"],
            None
        ));
        assert_eq!(
            traits(
                "storage.buckets.insert",
                r#"{"predefinedAcl":"private","name":"x"}"#
            ),
            []
        );
    }
}
