//! Resumable uploads that a session has begun.
//!
//! What goes on with an upload is decided by its id alone, whatever bucket the path names. An id from elsewhere would send what
//! policy takes for one bucket's to another, so only ids that were handed out in answer to a judged request count, and only
//! at the path they were handed out for.

use std::{num::NonZeroUsize, sync::Mutex};

use holdpoint_core::digest::Digest;
use http::{HeaderMap, HeaderName, Uri, header};
use lru::LruCache;

/// Uploads that are remembered. A client that is so many behind has to begin anew.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The uploads of one session.
pub struct Uploads(Mutex<LruCache<Digest, ()>>);

impl Default for Uploads {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl Uploads {
    /// Takes note of the upload that Google's answer says has begun
    /// (<https://cloud.google.com/storage/docs/performing-resumable-uploads>).
    pub fn begun(&self, answer: &HeaderMap) {
        const UPLOAD_URL: HeaderName = HeaderName::from_static("x-goog-upload-url");
        for value in [header::LOCATION, UPLOAD_URL]
            .iter()
            .filter_map(|name| answer.get(name))
        {
            let Some(url) = value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<Uri>().ok())
            else {
                continue;
            };
            for id in url.query().into_iter().flat_map(ids) {
                let mut uploads = self.0.lock().expect("no panic while locked");
                uploads.put(key(url.path(), &id), ());
            }
        }
    }

    /// Whether the upload of this id was begun in this session, at this path.
    #[must_use]
    pub fn knows(&self, path: &str, id: &str) -> bool {
        let mut uploads = self.0.lock().expect("no panic while locked");
        uploads.get(&key(path, id)).is_some()
    }
}

/// Decoded as [`holdpoint_core::recognise`] decodes a query.
fn ids(query: &str) -> impl Iterator<Item = String> {
    let values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("upload_id="));
    values.map(|value| {
        let spaced = value.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
        decoded.into_owned()
    })
}

fn key(path: &str, id: &str) -> Digest {
    Digest::of(&[path.as_bytes(), id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PATH: &str = "/upload/storage/v1/b/bkt/o";

    #[test]
    fn an_upload_is_known_by_its_id_and_path() {
        let uploads = Uploads::default();
        assert!(!uploads.knows(PATH, "A b"));
        for (name, url) in [
            (
                "location",
                "https://storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=resumable&upload_id=A%20b",
            ),
            (
                "x-goog-upload-url",
                "https://www.googleapis.com/upload/storage/v1/b/bkt/o?upload_id=C&upload_protocol=resumable",
            ),
        ] {
            let mut answer = HeaderMap::new();
            answer.insert(name, HeaderValue::from_static(url));
            uploads.begun(&answer);
        }
        assert!(uploads.knows(PATH, "A b") && uploads.knows(PATH, "C"));
        assert!(!uploads.knows(PATH, "D"));
        assert!(!uploads.knows("/upload/storage/v1/b/other/o", "C"));
    }

    #[test]
    fn answers_that_begin_nothing_are_none() {
        let uploads = Uploads::default();
        uploads.begun(&HeaderMap::new());
        for url in ["", "https://storage.googleapis.com/x", "::", "/x?upload_id"] {
            let mut answer = HeaderMap::new();
            answer.insert("location", HeaderValue::from_static(url));
            uploads.begun(&answer);
        }
        assert!(!uploads.knows("/x", ""));
    }
}
