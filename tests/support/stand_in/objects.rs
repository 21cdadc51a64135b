//! Buckets and the objects in them.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::PROJECT_NUMBER;

const BASE: &str = "https://www.googleapis.com/storage/v1/b";

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub data: Bytes,
    /// Its media type.
    pub content_type: String,
    generation: u64,
}

/// All buckets.
pub struct Buckets {
    /// By bucket, then by object name.
    pub all: BTreeMap<String, BTreeMap<String, Object>>,
    generation: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        let mut buckets = Self {
            all: BTreeMap::from([("prod-bucket".to_owned(), BTreeMap::new())]),
            generation: 1_700_000_000_000_000,
        };
        let secret = Bytes::from_static(b"top secret\n");
        buckets.put("prod-bucket", "secret.txt", "text/plain", secret);
        buckets
    }
}

impl Buckets {
    /// Stores an object and describes it; nothing where there is no such bucket.
    pub fn put(
        &mut self,
        bucket: &str,
        name: &str,
        content_type: &str,
        data: Bytes,
    ) -> Option<Value> {
        self.generation += 1;
        let object = Object {
            data,
            content_type: content_type.to_owned(),
            generation: self.generation,
        };
        let described = describe(bucket, name, &object);
        self.all.get_mut(bucket)?.insert(name.to_owned(), object);
        Some(described)
    }

    /// Finds an object.
    pub fn object(&self, bucket: &str, name: &str) -> Option<&Object> {
        self.all.get(bucket)?.get(name)
    }

    /// A bucket's metadata.
    pub fn bucket(&self, name: &str) -> Option<Value> {
        self.all.contains_key(name).then(|| {
            json!({
                "kind": "storage#bucket", "id": name, "name": name, "location": "US", "metageneration": "1",
                "projectNumber": PROJECT_NUMBER.to_string(), "storageClass": "STANDARD", "etag": "CAE=",
                "locationType": "multi-region", "timeCreated": "2026-01-01T00:00:00.000Z",
                "updated": "2026-01-01T00:00:00.000Z", "selfLink": format!("{BASE}/{name}"),
            })
        })
    }

    /// `objects.list` with `prefix` and `delimiter`.
    pub fn list(&self, bucket: &str, prefix: &str, delimiter: Option<&str>) -> Option<Value> {
        let objects = self.all.get(bucket)?;
        let (mut items, mut prefixes) = (Vec::new(), Vec::new());
        for (name, object) in objects.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let rest = &name[prefix.len()..];
            match delimiter
                .and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()))
            {
                Some(end) => prefixes.push(name[..prefix.len() + end].to_owned()),
                None => items.push(describe(bucket, name, object)),
            }
        }
        prefixes.dedup();
        Some(json!({"kind": "storage#objects", "items": items, "prefixes": prefixes}))
    }
}

/// An object's metadata, hashes included: clients check them.
pub fn describe(bucket: &str, name: &str, object: &Object) -> Value {
    let generation = object.generation;
    json!({
        "kind": "storage#object", "id": format!("{bucket}/{name}/{generation}"), "name": name,
        "bucket": bucket, "generation": generation.to_string(), "metageneration": "1",
        "contentType": object.content_type, "storageClass": "STANDARD",
        "size": object.data.len().to_string(), "etag": "CAE=",
        "md5Hash": md5_base64(&object.data), "crc32c": crc32c_base64(&object.data),
        "timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z",
        "selfLink": format!("{BASE}/{bucket}/o/{name}"),
        "mediaLink": format!("https://storage.googleapis.com/download/storage/v1/b/{bucket}/o/{name}?alt=media"),
    })
}

/// `x-goog-hash`, as downloads carry it.
pub fn hash_header(object: &Object) -> String {
    format!(
        "crc32c={},md5={}",
        crc32c_base64(&object.data),
        md5_base64(&object.data)
    )
}

impl Object {
    /// The generation number.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

fn md5_base64(data: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(data))
}

fn crc32c_base64(data: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(data).to_be_bytes())
}
