use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::operation::{Content, Trait};

#[derive(Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    url: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

/// Verb, URL without scheme, headers.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn ask<'a>(method: &'a str, url: &'a str) -> Ask<'a> {
    Ask {
        method,
        url,
        headers: &[],
        body: b"",
    }
}

impl Ask<'_> {
    fn complete(&self) -> Result<Recognised, Malformed> {
        self.with(Payload::Whole(self.body))
    }

    fn with(&self, payload: Payload<'_>) -> Result<Recognised, Malformed> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("the test's header is good");
            headers.append(
                name,
                HeaderValue::from_str(value).expect("the test's header is good"),
            );
        }
        let (url, query) = self.url.split_once('?').unwrap_or((self.url, ""));
        let slash = url.find('/').unwrap_or(url.len());
        let head = Head {
            method: self.method,
            authority: &url[..slash],
            path: &url[slash..],
            query,
            headers: &headers,
        };
        route(Catalog::built_in(), head)?.complete(payload)
    }

    fn operation(&self) -> Operation {
        match self.complete() {
            Ok(Recognised::One(operation)) => *operation,
            Ok(Recognised::Batch(_)) => panic!("{} {} is a batch", self.method, self.url),
            Err(error) => panic!("{} {}: {error}", self.method, self.url),
        }
    }
}

const INSTANCE: &str = "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[test]
fn full_resource_names() {
    for (method, url, id, name, project, location) in [
        (
            "DELETE",
            INSTANCE,
            "compute.instances.delete",
            "//compute.googleapis.com/projects/p/zones/z/instances/i",
            Some("p"),
            Some("z"),
        ),
        (
            "POST",
            "www.googleapis.com/compute/v1/projects/p/zones/z/instances/i/setMetadata",
            "compute.instances.setMetadata",
            "//compute.googleapis.com/projects/p/zones/z/instances/i",
            Some("p"),
            Some("z"),
        ),
        (
            "POST",
            "compute.googleapis.com/compute/v1/projects/p/global/firewalls",
            "compute.firewalls.insert",
            "//compute.googleapis.com/projects/p/global/firewalls",
            Some("p"),
            Some("global"),
        ),
        (
            "DELETE",
            "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i",
            "sql.instances.delete",
            "//sqladmin.googleapis.com/projects/p/instances/i",
            Some("p"),
            None,
        ),
        (
            "DELETE",
            "sqladmin.googleapis.com/v1/projects/p/instances/i",
            "sql.instances.delete",
            "//sqladmin.googleapis.com/projects/p/instances/i",
            Some("p"),
            None,
        ),
        (
            "POST",
            "sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/i:generateEphemeralCert",
            "sql.connect.generateEphemeral",
            "//sqladmin.googleapis.com/projects/p/instances/i",
            Some("p"),
            None,
        ),
        (
            "GET",
            "storage.googleapis.com/storage/v1/b/bkt/o/a%2Fb",
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/bkt/objects/a/b",
            None,
            None,
        ),
        (
            "GET",
            "storage.googleapis.com/bkt/a/b",
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/bkt/objects/a/b",
            None,
            None,
        ),
        (
            "HEAD",
            "bkt.storage.googleapis.com/a/b",
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/bkt/objects/a/b",
            None,
            None,
        ),
        (
            "GET",
            "storage.googleapis.com/bkt/?prefix=a",
            "storage.objects.list",
            "//storage.googleapis.com/projects/_/buckets/bkt/objects",
            None,
            None,
        ),
        (
            "DELETE",
            "storage.googleapis.com/bkt",
            "storage.buckets.delete",
            "//storage.googleapis.com/projects/_/buckets/bkt",
            None,
            None,
        ),
        (
            "GET",
            "storage.googleapis.com/storage/v1/b?project=p",
            "storage.buckets.list",
            "//storage.googleapis.com/projects/p/buckets",
            Some("p"),
            None,
        ),
        (
            "PUT",
            "storage.googleapis.com/storage/v1/b/bkt/iam",
            "storage.buckets.setIamPolicy",
            "//storage.googleapis.com/projects/_/buckets/bkt",
            None,
            None,
        ),
        (
            "POST",
            "storage.googleapis.com/storage/v1/b/a01/o/x/rewriteTo/b/b01/o/y",
            "storage.objects.rewrite",
            "//storage.googleapis.com/projects/_/buckets/b01/objects/y",
            None,
            None,
        ),
        (
            "GET",
            "storage.googleapis.com/download/storage/v1/b/bkt/o/x?alt=media",
            "storage.objects.get",
            "//storage.googleapis.com/projects/_/buckets/bkt/objects/x",
            None,
            None,
        ),
        (
            "GET",
            "bigquery.googleapis.com/bigquery/v2/projects/p/datasets/d/tables/t",
            "bigquery.tables.get",
            "//bigquery.googleapis.com/projects/p/datasets/d/tables/t",
            Some("p"),
            None,
        ),
        (
            "GET",
            "us-central1-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/p/services/s",
            "run.namespaces.services.get",
            "//run.googleapis.com/projects/p/locations/us-central1/services/s",
            Some("p"),
            Some("us-central1"),
        ),
        (
            "GET",
            "secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/latest:access",
            "secretmanager.projects.secrets.versions.access",
            "//secretmanager.googleapis.com/projects/p/secrets/s/versions/latest",
            Some("p"),
            None,
        ),
        (
            "POST",
            "iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com:generateAccessToken",
            "iamcredentials.projects.serviceAccounts.generateAccessToken",
            "//iamcredentials.googleapis.com/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com",
            Some("p"),
            None,
        ),
        (
            "GET",
            "appengine.googleapis.com/v1/apps/p/services",
            "appengine.apps.services.list",
            "//appengine.googleapis.com/apps/p/services",
            Some("p"),
            None,
        ),
        (
            "GET",
            "container.googleapis.com/v1/projects/p/locations/l/clusters/c",
            "container.projects.locations.clusters.get",
            "//container.googleapis.com/projects/p/locations/l/clusters/c",
            Some("p"),
            Some("l"),
        ),
        (
            "POST",
            "logging.googleapis.com/v2/entries:list",
            "logging.entries.list",
            "//logging.googleapis.com/entries",
            None,
            None,
        ),
    ] {
        let operation = ask(method, url).operation();
        let resource = &operation.resource;
        assert_eq!(
            (operation.action.id(), resource.name.as_str()),
            (id, name),
            "{url}"
        );
        assert_eq!(
            (resource.project.as_deref(), resource.location.as_deref()),
            (project, location),
            "{url}"
        );
    }
}

#[test]
fn an_objects_name_is_opaque() {
    for (url, object) in [
        ("storage.googleapis.com/storage/v1/b/bkt/o/a%2F%2Fb", "a//b"),
        ("storage.googleapis.com/storage/v1/b/bkt/o/a%252Fb", "a%2Fb"),
        (
            "storage.googleapis.com/storage/v1/b/bkt/o/a%2F..%2Fb",
            "a/../b",
        ),
        ("storage.googleapis.com/bkt/a//b", "a//b"),
        ("storage.googleapis.com/bkt/a%2Fb", "a/b"),
        ("storage.googleapis.com/bkt/a/../b", "a/../b"),
        ("storage.googleapis.com/bkt/dir/", "dir/"),
    ] {
        let operation = ask("GET", url).operation();
        let name = format!("//storage.googleapis.com/projects/_/buckets/bkt/objects/{object}");
        assert_eq!(
            (operation.action.id(), operation.resource.name),
            ("storage.objects.get", name),
            "{url}"
        );
    }
}

#[test]
fn tricks_are_malformed() {
    let two_verbs = [
        ("x-http-method-override", "GET"),
        ("x-http-method-override", "DELETE"),
    ];
    let cases: &[Case<'_>] = &[
        (
            "GET",
            "compute.googleapis.com:8443/compute/v1/projects/p",
            &[],
        ),
        (
            "GET",
            "compute.googleapis.com:443:443/compute/v1/projects/p",
            &[],
        ),
        (
            "GET",
            "user@compute.googleapis.com/compute/v1/projects/p",
            &[],
        ),
        ("GET", "example.com/compute/v1/projects/p", &[]),
        ("GET", "compute.googleapis.com/compute/v1//projects/p", &[]),
        ("GET", "compute.googleapis.com/compute/v1/projects/p/", &[]),
        (
            "GET",
            "compute.googleapis.com/compute/v1/projects/p/../q",
            &[],
        ),
        (
            "GET",
            "compute.googleapis.com/compute/v1/projects/%2e%2e",
            &[],
        ),
        (
            "GET",
            "compute.googleapis.com/compute/v1/projects/p%2Fq",
            &[],
        ),
        ("GET", "compute.googleapis.com/compute/v1/projects/p;x", &[]),
        ("GET", "compute.googleapis.com/compute/v1/%70rojects/p", &[]),
        (
            "GET",
            "compute.googleapis.com/compute/v1/projects/p%00",
            &[],
        ),
        (
            "GET",
            "secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/latest%3Aaccess",
            &[],
        ),
        ("GET", "storage.googleapis.com/storage/v1/b/bkt/o/", &[]),
        ("GET", "storage.googleapis.com/storage/v1/b/bkt/o/..", &[]),
        ("GET", "storage.googleapis.com/storage/v1/b/b%2Fo/o/x", &[]),
        ("GET", "storage.googleapis.com/bkt/../other/x", &[]),
        (
            "GET",
            "storage.googleapis.com/bkt/a/%2e%2e/%2E./other/x",
            &[],
        ),
        ("GET", "storage.googleapis.com/bkt/..", &[]),
        ("GET", "storage.googleapis.com/bkt/..%2Fother%2Fx", &[]),
        ("GET", "storage.googleapis.com/bkt/a%2F..%5C..%2Fx", &[]),
        (
            "GET",
            "storage.googleapis.com/storage/v1/b/bkt/o/..%2F..%2Fother%2Fo%2Fx",
            &[],
        ),
        (
            "GET",
            "storage.googleapis.com/bkt/x?X-Goog-Signature=1",
            &[],
        ),
        (
            "GET",
            "storage.googleapis.com/bkt/x?Signature=1&GoogleAccessId=a",
            &[],
        ),
        (
            "GET",
            "storage.googleapis.com/storage/v1/b/bkt/o?key=AIza",
            &[],
        ),
        (
            "GET",
            "storage.googleapis.com/storage/v1/b/bkt/o?bucket=other",
            &[],
        ),
        (
            "GET",
            "secretmanager.googleapis.com/v1/projects/p/secrets/s?name=projects/q/secrets/s",
            &[],
        ),
        (
            "POST",
            "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=media&name=a&name=b",
            &[],
        ),
        (
            "POST",
            "storage.googleapis.com/upload/storage/v1/b/bkt/o",
            &[],
        ),
        (
            "POST",
            "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=magic",
            &[],
        ),
        (
            "POST",
            "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=media",
            &[("x-goog-upload-protocol", "resumable")],
        ),
        (
            "POST",
            "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=resumable",
            &[("x-goog-upload-command", "upload, finalize")],
        ),
        (
            "POST",
            "storage.googleapis.com/storage/v1/b?upload_id=1",
            &[],
        ),
        (
            "POST",
            "storage.googleapis.com/storage/v1/b",
            &[("x-goog-upload-protocol", "raw")],
        ),
        ("POST", INSTANCE, &two_verbs),
        ("POST", INSTANCE, &[("x-http-method-override", "EXPLODE")]),
        (
            "POST",
            INSTANCE,
            &[("x-http-method-override", "GET, DELETE")],
        ),
        ("GET", INSTANCE, &[("x-http-method-override", "DELETE")]),
        ("POST", INSTANCE, &[("x-http-method", "DELETE")]),
        ("POST", INSTANCE, &[("x-method-override", "DELETE")]),
        ("POST", INSTANCE, &[("x_http_method_override", "DELETE")]),
        ("POST", INSTANCE, &[("http-method-override", "DELETE")]),
        ("delete", INSTANCE, &[]),
        ("TRACE", INSTANCE, &[]),
        (
            "POST",
            INSTANCE,
            &[
                ("content-type", "application/json"),
                ("content-type", "text/plain"),
            ],
        ),
        (
            "POST",
            "storage.googleapis.com/bkt/x",
            &[("x-http-method-override", "DELETE")],
        ),
        (
            "GET",
            "compute.googleapis.com/batch/compute/v1",
            &[("content-type", "multipart/mixed; boundary=b")],
        ),
        (
            "POST",
            "compute.googleapis.com/batch?alt=json",
            &[("content-type", "multipart/mixed; boundary=b")],
        ),
        (
            "POST",
            "compute.googleapis.com/batch",
            &[("content-type", "multipart/mixed; boundary=\"b")],
        ),
        (
            "POST",
            "compute.googleapis.com/batch",
            &[("content-type", "multipart/mixed; boundary='b'")],
        ),
        (
            "POST",
            "compute.googleapis.com/batch",
            &[("content-type", "multipart/mixed; boundary=a; boundary=b")],
        ),
    ];
    for (method, url, headers) in cases {
        let ask = Ask {
            headers,
            ..ask(method, url)
        };
        assert!(ask.complete().is_err(), "{method} {url} {headers:?}");
    }
}

#[test]
fn what_is_not_known_is_google_unknown() {
    let grpc: &[_] = &[("content-type", "application/grpc+proto")];
    let cases: &[Case<'_>] = &[
        ("GET", "nosuch.googleapis.com/v1/x", &[]),
        ("GET", "compute.googleapis.com/", &[]),
        (
            "GET",
            "bkt.storage.googleapis.com/storage/v1/b/other/o/x",
            &[],
        ),
        ("HEAD", INSTANCE, &[]),
        ("OPTIONS", INSTANCE, &[]),
        ("GET", "tunnel.cloudproxy.app/v4/connect", &[]),
        ("GET", "storage.googleapis.com/bkt/x?acl", &[]),
        ("POST", "storage.googleapis.com/bkt/x?uploads", &[]),
        ("GET", "storage.googleapis.com/bkt?policy", &[]),
        (
            "PUT",
            "storage.googleapis.com/bkt/x",
            &[("x-goog-copy-source", "other/secret")],
        ),
        (
            "PUT",
            "storage.googleapis.com/bkt/x",
            &[("x-amz-acl", "public-read")],
        ),
        ("GET", "storage.googleapis.com/storage/v1/b/bkt/o/a/b", &[]),
        ("GET", "storage.googleapis.com/Not-A-Bucket/x", &[]),
        (
            "POST",
            "storage.googleapis.com/batch/storage/v1",
            &[("content-type", "application/json")],
        ),
        (
            "POST",
            "pubsub.googleapis.com:443/google.pubsub.v1.Publisher/Publish",
            grpc,
        ),
        ("POST", INSTANCE, grpc),
    ];
    for (method, url, headers) in cases {
        let ask = Ask {
            headers,
            ..ask(method, url)
        };
        assert_eq!(
            ask.operation().action.id(),
            Action::UNKNOWN,
            "{method} {url}"
        );
    }
    let rpc = Ask {
        headers: grpc,
        ..ask(
            "POST",
            "pubsub.googleapis.com/google.pubsub.v1.Publisher/Publish",
        )
    };
    assert_eq!(
        rpc.operation().resource.name,
        "//pubsub.googleapis.com/google.pubsub.v1.Publisher/Publish"
    );
}

#[test]
fn a_get_in_a_post() {
    let plain = ask(
        "GET",
        "storage.googleapis.com/storage/v1/b/bkt/o?alt=json&prefix=a%2Fb",
    )
    .operation();
    let dressed = Ask {
        headers: &[("x-http-method-override", "GET"), FORM],
        body: b"alt=json&prefix=a%2Fb",
        ..ask("POST", "storage.googleapis.com/storage/v1/b/bkt/o")
    };
    let operation = dressed.operation();
    assert_eq!(operation.action.id(), "storage.objects.list");
    assert_eq!(
        (&operation.method, &operation.query),
        (&plain.method, &plain.query)
    );
    for (body, url) in [
        (&b"access_token=x"[..], dressed.url),
        (b"bucket=other", dressed.url),
        (
            b"prefix=a",
            "storage.googleapis.com/storage/v1/b/bkt/o?prefix=b",
        ),
        (
            b"alt=media",
            "storage.googleapis.com/storage/v1/b/bkt/o?alt=json",
        ),
    ] {
        assert!(
            Ask {
                url,
                body,
                ..dressed
            }
            .complete()
            .is_err(),
            "{url} {}",
            body.escape_ascii()
        );
    }
    let json: &[_] = &[
        ("x-http-method-override", "GET"),
        ("content-type", "application/json"),
    ];
    assert!(
        Ask {
            headers: json,
            body: b"{}",
            ..dressed
        }
        .complete()
        .is_err()
    );
    let deleting = Ask {
        headers: &[("x-http-method-override", "DELETE")],
        ..ask("POST", INSTANCE)
    };
    assert_eq!(deleting.operation().action.id(), "compute.instances.delete");
}

const UPLOAD: &str = "storage.googleapis.com/upload/storage/v1/b/bkt/o";

#[test]
fn uploads() {
    let related = |boundary: &str| format!("multipart/related; boundary={boundary}");
    let body = b"--b\nContent-Type: application/json\n\n{\"name\":\"n\",\"predefinedAcl\":\"publicRead\"}\n--b\nContent-Type: text/plain\n\nhello\n--b--\n";
    for content_type in [related("b"), related("\"b\""), related("'b'")] {
        let ask = Ask {
            headers: &[("content-type", &content_type)],
            body,
            ..ask(
                "POST",
                "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=multipart",
            )
        };
        let operation = ask.operation();
        assert_eq!(
            operation.resource.name,
            "//storage.googleapis.com/projects/_/buckets/bkt/objects/n"
        );
        assert!(operation.traits.contains(&Trait::PublicAccess));
        assert!(matches!(
            operation.content,
            Content::Media { complete: true, .. }
        ));
        let Ok(Recognised::One(begun)) = ask.with(Payload::Beginning(&body[..body.len() - 9]))
        else {
            panic!("the beginning of an upload is recognised");
        };
        assert!(matches!(
            begun.content,
            Content::Media {
                complete: false,
                ..
            }
        ));
        assert_eq!(begun.resource.name, operation.resource.name);
    }
    for bad in [
        &b"--b\n\n{}\n--b--\n"[..],
        b"--b\n\n{}\n--b\n\nx\n--b\n\ny\n--b--\n",
        b"x\n--b\n\n{}\n--b\n\nx\n--b--\n",
        b"--b\n\n{}\n--'b'\n\n{}\n--b\n\nx\n--b--\n",
        b"--b\nContent-Transfer-Encoding: base64\n\ne30=\n--b\n\nx\n--b--\n",
    ] {
        let ask = Ask {
            headers: &[("content-type", "multipart/related; boundary='b'")],
            body: bad,
            ..ask(
                "POST",
                "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=multipart",
            )
        };
        assert!(
            matches!(ask.operation().content, Content::Unreadable(_)),
            "{}",
            bad.escape_ascii()
        );
    }
    for (method, query, media) in [
        ("POST", "uploadType=media&name=n", true),
        ("PUT", "uploadType=resumable&upload_id=U", true),
        ("PUT", "upload_id=U", true),
        ("DELETE", "uploadType=resumable&upload_id=U", true),
        ("POST", "uploadType=resumable&name=n", false),
    ] {
        let url = format!("{UPLOAD}?{query}");
        let (url, query) = url.split_once('?').expect("it has a query");
        let head = Head {
            method,
            authority: "storage.googleapis.com",
            path: &url["storage.googleapis.com".len()..],
            query,
            headers: &HeaderMap::new(),
        };
        let route = route(Catalog::built_in(), head).expect("it is well formed");
        let step = match query.contains("upload_id=U") {
            true => Some(UploadStep::GoesOn("U")),
            false if query.contains("resumable") => Some(UploadStep::Begins),
            false => None,
        };
        assert_eq!(route.upload(), step, "{query}");
        assert_eq!(route.body_plan() == BodyPlan::Media, media, "{query}");
        let Ok(Recognised::One(operation)) = route.complete(Payload::Whole(b"")) else {
            panic!("{query} is one operation");
        };
        assert_eq!(operation.action.id(), "storage.objects.insert");
    }
}

#[test]
fn noise_is_left_out_of_the_digest_and_meaning_is_not() {
    let body: &[u8] = br#"{"deletionProtection":true}"#;
    let json = ("content-type", "application/json");
    let url =
        "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i?requestId=1&alt=json";
    let base = Ask {
        headers: &[json],
        body,
        ..ask("PUT", url)
    };
    let digest = base.operation().digest;
    let same = [
        Ask {
            url: "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i?alt=json&requestId=2",
            ..base
        },
        Ask {
            headers: &[
                json,
                ("x-goog-gcs-idempotency-token", "t"),
                ("user-agent", "u"),
                ("accept", "a"),
                ("x-goog-api-client", "gccl-attempt-count/2"),
                ("authorization", "Bearer x"),
            ],
            ..base
        },
    ];
    for ask in same {
        assert_eq!(ask.operation().digest, digest);
    }
    let other = [
        Ask {
            body: br#"{"deletionProtection":false}"#,
            ..base
        },
        Ask {
            url: "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/j?alt=json",
            ..base
        },
        Ask {
            url: "compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i?alt=media",
            ..base
        },
        Ask {
            headers: &[json, ("if-match", "e")],
            ..base
        },
        Ask {
            headers: &[json, ("x-goog-user-project", "q")],
            ..base
        },
        Ask {
            headers: &[("content-type", "text/plain")],
            ..base
        },
    ];
    for ask in other {
        assert_ne!(ask.operation().digest, digest);
    }
}

#[test]
fn headers_that_are_kept_with_an_object_count() {
    let upload = |headers: &[(&str, &str)]| {
        let url = "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=media&name=n";
        let ask = Ask {
            headers,
            body: b"<html>",
            ..ask("POST", url)
        };
        ask.operation().digest
    };
    let plain = upload(&[]);
    assert_eq!(upload(&[("user-agent", "u")]), plain);
    for name in [
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
    ] {
        assert_ne!(upload(&[(name, "text/html")]), plain, "{name}");
    }
}

#[test]
fn a_form_is_no_content_that_can_be_read() {
    for body in [
        &b"sourceRanges=0.0.0.0/0"[..],
        br#"{"sourceRanges":["0.0.0.0/0"]}"#,
    ] {
        let ask = Ask {
            headers: &[FORM],
            body,
            ..ask(
                "POST",
                "compute.googleapis.com/compute/v1/projects/p/global/firewalls",
            )
        };
        assert!(matches!(ask.operation().content, Content::Unreadable(_)));
    }
}

#[test]
fn boundaries_are_noise() {
    let digest = |boundary: &str| {
        let body = format!(
            "--{boundary}\r\n\r\n{{\"name\":\"n\"}}\r\n--{boundary}\r\n\r\nhello\r\n--{boundary}--"
        );
        let content_type = format!("multipart/related; boundary={boundary}");
        let ask = Ask {
            headers: &[("content-type", &content_type)],
            body: body.as_bytes(),
            ..ask(
                "POST",
                "storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=multipart",
            )
        };
        ask.operation().digest
    };
    assert_eq!(digest("one"), digest("two"));
}

proptest! {
    #[test]
    fn anything_is_recognised_or_refused(
        method in "(GET|POST|DELETE|PUT|[A-Z]{1,9})",
        authority in "(storage|compute|www|b\\.storage)\\.googleapis\\.com(:443)?|\\PC{0,20}",
        path in "/(storage/v1/b|upload|batch|compute/v1/projects|%[0-9a-f]{2}|[!-~]{0,8}|/|\\PC){0,8}",
        query in "([!-~]{0,10}=?[!-~]{0,10}&?){0,4}",
        content_type in "(multipart/mixed; boundary=b|multipart/related; boundary=b|application/json|[ -~]{0,30})",
        body in "(--b(--)?|\r?\n|GET / HTTP/1.1|\\{|\\}|\"|:|[ -~]){0,30}",
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_str(&content_type).expect("it is ASCII"));
        let head = Head { method: &method, authority: &authority, path: &path, query: &query, headers: &headers };
        if let Ok(route) = route(Catalog::built_in(), head) {
            let _ = route.complete(Payload::Whole(body.as_bytes()));
            let _ = route.complete(Payload::Beginning(body.as_bytes()));
        }
    }
}
