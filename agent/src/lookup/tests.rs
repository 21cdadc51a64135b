use std::sync::Mutex;

use holdpoint_core::recognise::{self, Head, Payload, Recognised};
use http::HeaderMap;

use super::*;

fn reading(instance: &str) -> Reading {
    let headers = HeaderMap::new();
    let path = format!("/sql/v1beta4/projects/p/instances/{instance}");
    let head = Head {
        method: "DELETE",
        authority: "sqladmin.googleapis.com",
        path: &path,
        query: "",
        headers: &headers,
    };
    let route = recognise::route(Catalog::built_in(), head).expect("well formed");
    match route.complete(Payload::Whole(b"")).expect("well formed") {
        Recognised::One(operation) => {
            Reading::of_target(Catalog::built_in(), &operation).expect("it has a get")
        }
        Recognised::Batch(_) => panic!("no batch"),
    }
}

fn found(cache: &Mutex<Cache>, instance: &str, now: Instant) -> (bool, Age) {
    let (found, age) = cache
        .lock()
        .expect("no panic")
        .find(&reading(instance), now);
    (found.is_some(), age)
}

fn keep(cache: &Mutex<Cache>, instance: &str, age: Age) {
    cache
        .lock()
        .expect("no panic")
        .keep(&reading(instance), None, age);
}

#[test]
fn what_was_read_counts_for_ten_seconds() {
    let cache = Mutex::default();
    let now = Instant::now();
    let (known, age) = found(&cache, "a", now);
    assert!(!known);
    keep(&cache, "a", age);
    assert!(found(&cache, "a", now + Duration::from_secs(9)).0);
    assert!(!found(&cache, "a", now + Duration::from_secs(10)).0);
    assert!(!found(&cache, "b", now).0);
}

#[test]
fn nothing_that_was_read_before_or_during_a_change_counts() {
    let cache = Arc::new(Mutex::default());
    let now = Instant::now();
    let (_, age) = found(&cache, "a", now);
    keep(&cache, "a", age);
    let (_, before) = found(&cache, "b", now);
    let changing = Changing::begin(&cache);
    assert!(!found(&cache, "a", now).0, "read before the change");
    let (_, during) = found(&cache, "c", now);
    keep(&cache, "b", before);
    keep(&cache, "c", during);
    assert!(
        !found(&cache, "b", now).0,
        "began to be read before the change"
    );
    assert!(!found(&cache, "c", now).0, "read during the change");
    drop(changing);
    keep(&cache, "b", before);
    keep(&cache, "c", during);
    assert!(!found(&cache, "b", now).0 && !found(&cache, "c", now).0);
    let (_, after) = found(&cache, "c", now);
    keep(&cache, "c", after);
    assert!(found(&cache, "c", now).0, "read after the change");
}

#[test]
fn the_cache_is_bounded() {
    let cache = Mutex::default();
    let now = Instant::now();
    for instance in 0..100 {
        let (_, age) = found(&cache, &format!("i{instance}"), now);
        keep(&cache, &format!("i{instance}"), age);
    }
    assert!(!found(&cache, "i0", now).0 && found(&cache, "i99", now).0);
}

#[test]
fn only_an_object_is_a_resource() {
    for garbage in [
        &b"<html>"[..],
        b"",
        b"[]",
        b"null",
        b"{\"a\":1,\"a\":2}",
        b"{} {}",
    ] {
        assert!(object(garbage).is_err(), "{garbage:?}");
    }
    assert!(object(b"{}").is_ok());
    assert!(matches!(target(&Err("why".into())), Target::Unknown(_)));
    assert!(matches!(target(&Ok(None)), Target::Known(known) if !known.exists));
}
