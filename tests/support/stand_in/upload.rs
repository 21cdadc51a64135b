//! Uploads: media, multipart and resumable (<https://cloud.google.com/storage/docs/uploads-downloads>).

use std::{collections::HashMap, sync::Mutex};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::Value;

use super::{Answer, Call, batch, objects::Buckets};

/// Resumable uploads under way, by upload id.
#[derive(Default)]
pub struct Uploads(Mutex<HashMap<String, Upload>>);

struct Upload {
    name: String,
    content_type: String,
    data: BytesMut,
}

impl Uploads {
    /// Answers one upload call.
    pub fn answer(&self, buckets: &mut Buckets, bucket: &str, call: &Call) -> Answer {
        match (call.parameter("uploadType"), call.parameter("upload_id")) {
            (_, Some(id)) => self.resume(buckets, bucket, id, call),
            (Some("multipart"), None) => multipart(buckets, bucket, call),
            (Some("resumable"), None) => self.begin(bucket, call),
            (Some("media"), None) => {
                let name = call.parameter("name").unwrap_or("unnamed");
                let content_type = call
                    .header("content-type")
                    .unwrap_or("application/octet-stream");
                stored(buckets.put(bucket, name, content_type, call.body.clone()))
            }
            _ => Answer::error(StatusCode::BAD_REQUEST, "invalid", "unknown uploadType"),
        }
    }

    fn begin(&self, bucket: &str, call: &Call) -> Answer {
        let metadata = call.json();
        let name = call
            .parameter("name")
            .or(metadata["name"].as_str())
            .unwrap_or("unnamed");
        let mut uploads = self.0.lock().expect("no panic while locked");
        let id = format!("upload-{}", uploads.len() + 1);
        let upload = Upload {
            name: name.to_owned(),
            content_type: content_type(&metadata, call.header("x-upload-content-type")),
            data: BytesMut::new(),
        };
        uploads.insert(id.clone(), upload);
        let session = format!(
            "https://storage.googleapis.com/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}"
        );
        Answer::of("text/plain", Bytes::new())
            .with_header("location", &session)
            .with_header("x-guploader-uploadid", &id)
    }

    fn resume(&self, buckets: &mut Buckets, bucket: &str, id: &str, call: &Call) -> Answer {
        let mut uploads = self.0.lock().expect("no panic while locked");
        let Some(upload) = uploads.get_mut(id) else {
            return Answer::missing("The upload");
        };
        upload.data.extend_from_slice(&call.body);
        // `bytes 0-524287/*` and `bytes */N` say that more may come; `bytes 0-9/10` that this is the end.
        let total = call
            .header("content-range")
            .and_then(|range| range.rsplit('/').next());
        let have = upload.data.len();
        let finished = total.is_none_or(|total| total == have.to_string());
        if finished {
            let data = upload.data.split().freeze();
            return stored(buckets.put(bucket, &upload.name, &upload.content_type, data));
        }
        let answer = Answer::nothing().with_status(StatusCode::PERMANENT_REDIRECT);
        match have.checked_sub(1) {
            Some(last) => answer.with_header("range", &format!("bytes=0-{last}")),
            None => answer,
        }
    }
}

fn multipart(buckets: &mut Buckets, bucket: &str, call: &Call) -> Answer {
    let pieces = batch::boundary(call).map(|boundary| batch::multipart(&call.body, &boundary));
    let Some([metadata, media]) = pieces.as_deref() else {
        return Answer::error(StatusCode::BAD_REQUEST, "invalid", "not two parts");
    };
    let (_, metadata) = batch::head_and_body(metadata);
    let (head, data) = batch::head_and_body(media);
    let metadata: Value = serde_json::from_slice(&metadata).unwrap_or_default();
    let name = call
        .parameter("name")
        .or(metadata["name"].as_str())
        .unwrap_or("unnamed");
    let media_type = head
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    stored(buckets.put(bucket, name, &content_type(&metadata, media_type), data))
}

fn content_type(metadata: &Value, header: Option<&str>) -> String {
    let named = metadata["contentType"].as_str().or(header);
    named.unwrap_or("application/octet-stream").to_owned()
}

fn stored(object: Option<Value>) -> Answer {
    object.map_or_else(
        || Answer::missing("The specified bucket"),
        |it| Answer::json(&it),
    )
}
