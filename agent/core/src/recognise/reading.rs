//! The request by which Holdpoint itself reads what an operation is about.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Head, Payload, Recognised, Target, route};
use crate::{
    catalog::{Catalog, variable},
    groups::{Group, Groups},
    operation::Operation,
};

/// What may stand in a segment as it is (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Asks for conditions as well (<https://cloud.google.com/iam/docs/policies#versions>).
const POLICY_OPTIONS: &[u8] = br#"{"options":{"requestedPolicyVersion":3}}"#;

/// A request that reads one thing and changes nothing: a method of the catalog that is in the group read and in no other.
/// Only [`Reading::of_target`] and [`Reading::of_policy`] make one, from an operation, and what it reads is the operation's
/// resource, so that nothing else can be sent with Holdpoint's own hands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    action: String,
    resource: String,
    method: &'static str,
    host: String,
    path_and_query: String,
    body: &'static [u8],
}

impl Reading {
    /// Reads what `operation` is about, as it is now: the `get` method of its resource.
    ///
    /// # Errors
    /// When there is none; the text says so.
    pub fn of_target(catalog: &Catalog, operation: &Operation) -> Result<Self, String> {
        let query = query_of_target(operation);
        let mut places = places(operation);
        let found = places.find_map(|(host, path)| {
            Self::checked(catalog, operation, ("GET", host, &path, &query), is_get)
        });
        found.ok_or_else(|| {
            format!(
                "{} is about nothing of which Google has a get method",
                operation.action.id()
            )
        })
    }

    /// Whether what operations of the method `id` are about can be read, as far as its path tells.
    #[must_use]
    pub fn is_possible(catalog: &Catalog, id: &str) -> bool {
        let mut methods = catalog.methods().filter(|method| method.id == id);
        methods.any(|method| {
            let segments = method.template.split('/').map(made_up);
            let path = format!("/{}", segments.collect::<Vec<_>>().join("/"));
            let headers = HeaderMap::new();
            let head = Head {
                method: method.verb,
                authority: method.host,
                path: &path,
                query: "",
                headers: &headers,
            };
            let operation = route(catalog, head).and_then(|it| it.complete(Payload::Whole(b"{}")));
            match operation {
                Ok(Recognised::One(operation)) => Self::of_target(catalog, &operation).is_ok(),
                // Nobody knows.
                Ok(Recognised::Batch(_)) | Err(_) => true,
            }
        })
    }

    /// Reads the IAM policy that `operation`, a `setIamPolicy`, would replace.
    ///
    /// # Errors
    /// When there is no `getIamPolicy` for it; the text says so.
    pub fn of_policy(catalog: &Catalog, operation: &Operation) -> Result<Self, String> {
        let path = operation.path.replace("setIamPolicy", "getIamPolicy");
        let option = match operation.action.service() {
            "compute" | "storage" => "optionsRequestedPolicyVersion=3",
            _ => "options.requestedPolicyVersion=3",
        };
        let expected = operation
            .action
            .id()
            .replace("setIamPolicy", "getIamPolicy");
        let is_it = |asked: &Asked<'_>| asked.id == expected;
        let host = operation.host.as_str();
        let by_get = Self::checked(catalog, operation, ("GET", host, &path, option), is_it);
        by_get
            .or_else(|| {
                let by_post = ("POST", host, path.as_str(), "");
                let reading = Self::checked(catalog, operation, by_post, is_it)?;
                let body = POLICY_OPTIONS;
                Some(Self { body, ..reading })
            })
            .ok_or_else(|| "Google has no getIamPolicy for it".to_owned())
    }

    /// Recognised like a request of an agent's: the same method and resource, or none.
    fn checked(
        catalog: &Catalog,
        operation: &Operation,
        (method, authority, path, query): (&'static str, &str, &str, &str),
        is_wanted: impl Fn(&Asked<'_>) -> bool,
    ) -> Option<Self> {
        let headers = HeaderMap::new();
        let head = Head {
            method,
            authority,
            path,
            query,
            headers: &headers,
        };
        let route = route(catalog, head).ok()?;
        let Target::Method(call) = &route.target else {
            return None;
        };
        let asked = Asked {
            id: call.method.id,
            ends_in_variable: call
                .method
                .template
                .rsplit('/')
                .next()
                .is_some_and(is_variable),
        };
        let Recognised::One(reads) = route.complete(Payload::Whole(&[])).ok()? else {
            return None;
        };
        let only_reads = reads.action.groups() == Groups::of(&[Group::Read]);
        let same = reads.resource.name == operation.resource.name;
        (only_reads && same && is_wanted(&asked)).then(|| Self {
            action: reads.action.id().to_owned(),
            resource: reads.resource.name,
            method,
            host: reads.host,
            path_and_query: match query {
                "" => path.to_owned(),
                query => format!("{path}?{query}"),
            },
            body: &[],
        })
    }

    /// The method's discovery id.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The full resource name of what is read.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The HTTP verb.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path and the query.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// JSON; empty for a GET.
    #[must_use]
    pub fn body(&self) -> &'static [u8] {
        self.body
    }
}

/// A segment of a template as a path may have it.
fn made_up(segment: &str) -> String {
    match (segment.find('{'), segment.find('}')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}x{}", &segment[..start], &segment[end + 1..])
        }
        _ => segment.to_owned(),
    }
}

fn is_variable(segment: &str) -> bool {
    variable(segment).is_some()
}

struct Asked<'a> {
    id: &'a str,
    ends_in_variable: bool,
}

/// `compute.instances.get`, and `sql.backups.GetBackup`; not `compute.instances.getSerialPortOutput`.
fn is_get(asked: &Asked<'_>) -> bool {
    let name = asked.id.rsplit('.').next().unwrap_or_default();
    let begins = name
        .get(..3)
        .is_some_and(|it| it.eq_ignore_ascii_case("get"));
    begins && (name.len() == 3 || asked.ends_in_variable)
}

/// The hosts and paths at which the `get` may be: the operation's own, that without what names the method, and so on upwards.
/// Whichever is about the same resource is it.
fn places(operation: &Operation) -> impl Iterator<Item = (&str, String)> {
    let own = without_custom_verb(&operation.path).to_owned();
    let upwards = std::iter::successors(Some(own), |path| {
        let (above, _) = path.rsplit_once('/')?;
        (!above.is_empty()).then(|| above.to_owned())
    });
    let upwards = upwards.take(4).map(|path| (operation.host.as_str(), path));
    upwards.chain(object_path(operation).map(|path| ("storage.googleapis.com", path)))
}

fn without_custom_verb(path: &str) -> &str {
    let last = path.rfind('/').unwrap_or_default();
    match path[last..].rfind(':') {
        Some(colon) => &path[..last + colon],
        None => path,
    }
}

/// Cloud Storage has several paths to one object, some without its name.
fn object_path(operation: &Operation) -> Option<String> {
    let name = operation
        .resource
        .name
        .strip_prefix("//storage.googleapis.com/projects/_/buckets/")?;
    let piece = |text| utf8_percent_encode(text, SEGMENT).to_string();
    let is_object = operation.action.id().starts_with("storage.objects.");
    match name.split_once("/objects/") {
        Some((bucket, object)) if is_object => Some(format!(
            "/storage/v1/b/{}/o/{}",
            piece(bucket),
            piece(object)
        )),
        None if !name.contains('/') => Some(format!("/storage/v1/b/{}", piece(name))),
        _ => None,
    }
}

/// What tells one target from another and stands in the query.
fn query_of_target(operation: &Operation) -> String {
    let name = match operation.action.id() {
        "storage.objects.delete" | "storage.objects.patch" | "storage.objects.update" => {
            "generation"
        }
        id if id.starts_with("bigquery.jobs.") => "location",
        _ => return String::new(),
    };
    let value = operation.query.iter().find(|(known, _)| known == name);
    value.map_or_else(String::new, |(_, value)| {
        format!("{name}={}", utf8_percent_encode(value, SEGMENT))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `HOST/PATH?QUERY` asks for.
    pub(crate) fn operation(method: &str, url: &str, body: &[u8]) -> Operation {
        let (host, rest) = url.split_once('/').expect("a path");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let headers = HeaderMap::new();
        let head = Head {
            method,
            authority: host,
            path: &format!("/{path}"),
            query,
            headers: &headers,
        };
        let route = route(Catalog::built_in(), head).expect("well formed");
        match route.complete(Payload::Whole(body)).expect("well formed") {
            Recognised::One(operation) => *operation,
            Recognised::Batch(_) => panic!("no batch"),
        }
    }

    fn target(method: &str, url: &str) -> Option<(String, String)> {
        let operation = operation(method, url, b"");
        let reading = Reading::of_target(Catalog::built_in(), &operation).ok()?;
        assert_eq!(reading.resource(), operation.resource.name);
        assert_eq!((reading.method(), reading.body()), ("GET", &b""[..]));
        Some((
            reading.action().to_owned(),
            format!("{}{}", reading.host(), reading.path_and_query()),
        ))
    }

    #[test]
    fn the_get_of_what_an_operation_is_about_is_found() {
        const VM: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i";
        for (method, url, id, at) in [
            ("DELETE", VM, "compute.instances.get", VM),
            (
                "POST",
                &format!("{VM}/setLabels"),
                "compute.instances.get",
                VM,
            ),
            (
                "POST",
                &format!("{VM}/stop?discardLocalSsd=true"),
                "compute.instances.get",
                VM,
            ),
            (
                "DELETE",
                "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i",
                "sql.instances.get",
                "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i",
            ),
            (
                "POST",
                "secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/3:destroy",
                "secretmanager.projects.secrets.versions.get",
                "secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/3",
            ),
            (
                "DELETE",
                "us-central1-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/p/services/s",
                "run.namespaces.services.get",
                "us-central1-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/p/services/s",
            ),
            (
                "DELETE",
                "storage.googleapis.com/storage/v1/b/b/o/a%2Fb?generation=5&userProject=x",
                "storage.objects.get",
                "storage.googleapis.com/storage/v1/b/b/o/a%2Fb?generation=5",
            ),
            (
                "DELETE",
                "storage.googleapis.com/bucket/a/b",
                "storage.objects.get",
                "storage.googleapis.com/storage/v1/b/bucket/o/a%2Fb",
            ),
            (
                "POST",
                "storage.googleapis.com/upload/storage/v1/b/b/o?uploadType=media&name=x%2Fy",
                "storage.objects.get",
                "storage.googleapis.com/storage/v1/b/b/o/x%2Fy",
            ),
            (
                "POST",
                "storage.googleapis.com/storage/v1/b/from/o/o1/rewriteTo/b/to/o/o2",
                "storage.objects.get",
                "storage.googleapis.com/storage/v1/b/to/o/o2",
            ),
        ] {
            let found = target(method, url);
            assert_eq!(
                found,
                Some((id.to_owned(), at.to_owned())),
                "{method} {url}"
            );
        }
    }

    #[test]
    fn what_has_no_get_of_its_own_is_not_guessed() {
        for (method, url) in [
            (
                "POST",
                "compute.googleapis.com/compute/v1/projects/p/zones/z/instances",
            ),
            (
                "GET",
                "compute.googleapis.com/compute/v1/projects/p/zones/z/instances",
            ),
            (
                "DELETE",
                "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i/users?name=u",
            ),
            ("POST", "unheard-of.googleapis.com/v1/x"),
        ] {
            assert_eq!(target(method, url), None, "{method} {url}");
        }
    }

    #[test]
    fn the_policy_that_would_be_replaced_is_found() {
        for (method, url, verb, at) in [
            (
                "POST",
                "cloudresourcemanager.googleapis.com/v1/projects/p:setIamPolicy",
                "POST",
                "/v1/projects/p:getIamPolicy",
            ),
            (
                "POST",
                "pubsub.googleapis.com/v1/projects/p/topics/t:setIamPolicy",
                "GET",
                "/v1/projects/p/topics/t:getIamPolicy?options.requestedPolicyVersion=3",
            ),
            (
                "PUT",
                "storage.googleapis.com/storage/v1/b/b/iam",
                "GET",
                "/storage/v1/b/b/iam?optionsRequestedPolicyVersion=3",
            ),
            (
                "POST",
                "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i/setIamPolicy",
                "GET",
                "/compute/v1/projects/p/zones/z/instances/i/getIamPolicy?optionsRequestedPolicyVersion=3",
            ),
        ] {
            let operation = operation(method, url, b"{}");
            let reading = Reading::of_policy(Catalog::built_in(), &operation).expect(url);
            assert_eq!((reading.method(), reading.path_and_query()), (verb, at));
            assert_eq!(reading.resource(), operation.resource.name);
            assert!(reading.action().ends_with("getIamPolicy"));
            assert_eq!(reading.body().is_empty(), verb == "GET");
        }
    }

    /// Of every method with a path of its own: nothing is read but by a method that only reads, and nothing but its resource.
    #[test]
    fn whatever_is_read_only_reads_and_is_the_same_thing() {
        let catalog = Catalog::built_in();
        let mut found = 0;
        let mut deletes = 0;
        for method in catalog.methods().filter(|method| method.verb == "DELETE") {
            let path = method
                .template
                .split('/')
                .map(|piece| if is_variable(piece) { "x" } else { piece })
                .collect::<Vec<_>>()
                .join("/");
            let headers = HeaderMap::new();
            let head = Head {
                method: method.verb,
                authority: method.host,
                path: &format!("/{path}"),
                query: "",
                headers: &headers,
            };
            let Ok(Recognised::One(operation)) =
                route(catalog, head).and_then(|route| route.complete(Payload::Whole(b"")))
            else {
                continue;
            };
            deletes += 1;
            if let Ok(reading) = Reading::of_target(catalog, &operation) {
                found += 1;
                let verb = catalog.verb(reading.action());
                assert_eq!(verb, Some("GET"), "{}", method.id);
            }
        }
        assert!(found * 100 > deletes * 75, "{found} of {deletes}");
    }
}
