//! Media uploads (<https://cloud.google.com/storage/docs/uploads-downloads>).

use super::{Head, Malformed, query::Query};

/// What one request of an upload carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// Nothing but media.
    Simple,
    /// `multipart/related`: metadata, then media.
    Multipart,
    /// The metadata of an upload that is to follow.
    Start,
    /// Media, or a question about media, of an upload that was started before and is named by its id.
    Chunk,
}

impl Upload {
    /// # Errors
    /// When the request does not say which of them it is, or says two.
    pub fn of(head: &Head<'_>, query: &Query) -> Result<Self, Malformed> {
        check_headers(head)?;
        let command = header(head, "x-goog-upload-command")?;
        let starts = command.is_none_or(|command| command.trim() == "start");
        if query.has("upload_id") {
            return Ok(Self::Chunk);
        }
        if !starts {
            return Err(Malformed("an upload goes on that has no upload_id".into()));
        }
        let in_query = query
            .value("uploadType")
            .or_else(|| query.value("upload_protocol"));
        let in_header = header(head, "x-goog-upload-protocol")?;
        if let (Some(one), Some(other)) = (in_query, in_header)
            && kind(one) != kind(other)
        {
            return Err(Malformed("the upload is of two kinds".into()));
        }
        in_query.or(in_header).and_then(kind).ok_or_else(|| {
            Malformed("the upload does not say of which kind it is (uploadType)".into())
        })
    }
}

fn kind(text: &str) -> Option<Upload> {
    match text {
        "media" | "raw" => Some(Upload::Simple),
        "multipart" => Some(Upload::Multipart),
        "resumable" => Some(Upload::Start),
        _ => None,
    }
}

/// `X-Goog-Upload-Header-*` stand for headers of the finished upload; only those that describe the media are known.
fn check_headers(head: &Head<'_>) -> Result<(), Malformed> {
    let names = head
        .headers
        .keys()
        .filter_map(|name| name.as_str().strip_prefix("x-goog-upload-header-"));
    for name in names {
        if !matches!(name, "content-type" | "content-length") {
            return Err(Malformed(format!(
                "the header x-goog-upload-header-{name} is not allowed"
            )));
        }
    }
    Ok(())
}

fn header<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a str>, Malformed> {
    let mut values = head.headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Malformed(format!("the header {name} is given twice")));
    }
    Ok(value.map(|value| value.to_str().unwrap_or_default()))
}
