//! What a body says, read within bounds.

use std::io::Read as _;

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::{
    Malformed, Payload,
    media_type::MediaType,
    multipart::{self, Next, Parts},
    query::Query,
};
use crate::{
    fields::{Fields, Json},
    operation::Content,
};

/// The largest body that is read for its fields, decoded, in bytes.
pub(super) const MAX_CONTENT: usize = 1 << 20;

/// A body, understood as far as it can be.
pub(super) struct Body {
    pub content: Content,
    /// The JSON it holds: all of it, or an upload's metadata.
    pub json: Option<Json>,
    /// Parameters of a form.
    pub form: Query,
    /// What an approval binds: the body as parsed, without the client's dressing.
    pub canonical: Vec<Vec<u8>>,
}

impl Body {
    fn new(content: Content, canonical: Vec<Vec<u8>>) -> Self {
        Self {
            content,
            json: None,
            form: Query::default(),
            canonical,
        }
    }

    fn unreadable(why: impl Into<String>, raw: &[u8]) -> Self {
        Self::new(
            Content::Unreadable(why.into()),
            vec![b"raw".into(), raw.to_vec()],
        )
    }

    /// A body that is read whole. A form is not: which services take it for parameters, which for JSON, is nowhere said.
    pub fn whole(
        payload: Payload<'_>,
        media_type: Option<&MediaType>,
        headers: &HeaderMap,
    ) -> Self {
        let raw = match payload {
            Payload::Whole([]) => return Self::new(Content::Empty, Vec::new()),
            Payload::Whole(raw) => raw,
            Payload::Beginning(raw) => {
                return Self::unreadable("it is longer than what Holdpoint reads", raw);
            }
        };
        let decoded = match decode(raw, headers) {
            Ok(decoded) => decoded,
            Err(why) => return Self::unreadable(why, raw),
        };
        if let Some(other) = media_type.filter(|media_type| !media_type.is_json()) {
            let why = format!("Holdpoint cannot read {}", other.canonical());
            return Self::unreadable(why, &decoded);
        }
        match Json::parse(&decoded) {
            Ok(json) => Self {
                content: Content::Fields(Fields::of(&json)),
                json: Some(json),
                form: Query::default(),
                canonical: vec![b"json".into(), decoded],
            },
            Err(why) => Self::unreadable(
                format!("it is not JSON that Holdpoint reads: {why}"),
                &decoded,
            ),
        }
    }

    /// The query of a GET in the dress of a POST.
    ///
    /// # Errors
    /// When it is no form, holds a credential, or cannot be read without doubt.
    pub fn query(
        payload: Payload<'_>,
        media_type: Option<&MediaType>,
        headers: &HeaderMap,
    ) -> Result<Self, Malformed> {
        let form = match payload {
            Payload::Whole([]) => Query::default(),
            Payload::Whole(raw) if media_type.is_some_and(MediaType::is_form) => {
                let decoded = decode(raw, headers);
                Query::parse(&decoded.map_err(|why| Malformed(format!("the form: {why}")))?)?
            }
            _ => {
                return Err(Malformed(
                    "a GET in a POST has no body but its query".into(),
                ));
            }
        };
        Ok(Self {
            form,
            ..Self::new(Content::Empty, vec![b"form".into()])
        })
    }

    /// A body that is nothing but media.
    pub fn media(payload: Payload<'_>) -> Self {
        let (Payload::Whole(raw) | Payload::Beginning(raw)) = payload;
        if matches!(payload, Payload::Whole([])) {
            return Self::new(Content::Empty, Vec::new());
        }
        let content = Content::Media {
            metadata: Fields::default(),
            complete: matches!(payload, Payload::Whole(_)),
        };
        Self::new(content, vec![b"media".into(), raw.to_vec()])
    }

    /// Metadata and media in `multipart/related`.
    pub fn multipart(
        payload: Payload<'_>,
        media_type: Option<&MediaType>,
        headers: &HeaderMap,
    ) -> Self {
        let (Payload::Whole(raw) | Payload::Beginning(raw)) = payload;
        let complete = matches!(payload, Payload::Whole(_));
        let encoded = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|coding| coding != "identity");
        if encoded {
            return Self::unreadable("a multipart upload is not read when it is compressed", raw);
        }
        let related = media_type.filter(|media_type| media_type.essence == "multipart/related");
        let read = related
            .ok_or_else(|| "it is not multipart/related".to_owned())
            .and_then(|media_type| multipart::boundary(media_type, true))
            .and_then(|boundary| related_parts(raw, boundary, complete));
        match read {
            Err(why) => Self::unreadable(why, raw),
            Ok((json, canonical)) => Self {
                content: Content::Media {
                    metadata: Fields::of(&json),
                    complete,
                },
                json: Some(json),
                form: Query::default(),
                canonical,
            },
        }
    }
}

/// The metadata, and both parts without their dressing.
fn related_parts(
    raw: &[u8],
    boundary: &str,
    complete: bool,
) -> Result<(Json, Vec<Vec<u8>>), String> {
    if multipart::contains(raw, format!("--'{boundary}'").as_bytes()) {
        return Err("its boundary can be read in two ways".into());
    }
    let mut parts = Parts::new(raw, boundary)?;
    let Next::Part(first) = parts.next()? else {
        return Err("its metadata is not within what Holdpoint reads".into());
    };
    let (metadata_type, metadata) = part(first)?;
    if !metadata_type.as_ref().is_none_or(MediaType::is_json) || metadata.len() > MAX_CONTENT {
        return Err("its metadata is not JSON that Holdpoint reads".into());
    }
    let json = Json::parse(metadata)?;
    let second = match (parts.next()?, complete) {
        (Next::Part(second), _) => second,
        (Next::Open(second), false) => second,
        _ => return Err("it has no media".into()),
    };
    if complete && !matches!(parts.next()?, Next::End) {
        return Err("it does not consist of two parts".into());
    }
    let (media_type, media) = match part(second) {
        Ok(read) => read,
        Err(why) if complete => return Err(why),
        Err(_) => (None, second),
    };
    let media_type = media_type
        .map(|media_type| media_type.canonical())
        .unwrap_or_default();
    let canonical = [b"related", metadata, media_type.as_bytes(), media];
    Ok((json, canonical.map(<[u8]>::to_vec).to_vec()))
}

fn part(part: &[u8]) -> Result<(Option<MediaType>, &[u8]), String> {
    let (headers, body) = multipart::headers(part)?;
    let encodings = headers.get_all("content-transfer-encoding");
    let plain = |encoding: &http::HeaderValue| {
        ["binary", "7bit", "8bit"]
            .iter()
            .any(|known| encoding.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    };
    if !encodings.iter().all(plain) || headers.contains_key(CONTENT_ENCODING) {
        return Err("a part is encoded".into());
    }
    let media_type = MediaType::of(&headers).map_err(|error| error.0)?;
    Ok((media_type, body))
}

/// Undoes `Content-Encoding`, within [`MAX_CONTENT`].
pub(super) fn decode(raw: &[u8], headers: &HeaderMap) -> Result<Vec<u8>, String> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = codings
        .next()
        .map(|coding| coding.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    if codings.next().is_some() {
        return Err("it is compressed more than once".into());
    }
    let mut decoded = Vec::new();
    // One byte more than allowed tells what is too long from what just fits.
    let limit = MAX_CONTENT as u64 + 1;
    let read = match coding.as_deref() {
        None | Some("" | "identity") => raw.take(limit).read_to_end(&mut decoded),
        Some("gzip" | "x-gzip") => flate2::read::MultiGzDecoder::new(raw)
            .take(limit)
            .read_to_end(&mut decoded),
        Some("deflate") => flate2::read::ZlibDecoder::new(raw)
            .take(limit)
            .read_to_end(&mut decoded),
        Some("br") => brotli::Decompressor::new(raw, 4096)
            .take(limit)
            .read_to_end(&mut decoded),
        Some("zstd") => zstd::Decoder::new(raw)
            .and_then(|decoder| decoder.take(limit).read_to_end(&mut decoded)),
        Some(other) => {
            return Err(format!(
                "Holdpoint cannot undo the content coding {other:?}"
            ));
        }
    };
    read.map_err(|error| format!("it does not decompress: {error}"))?;
    if decoded.len() > MAX_CONTENT {
        return Err(format!(
            "it is longer than the {MAX_CONTENT} bytes that Holdpoint reads"
        ));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &[u8], coding: &'static str) -> Content {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        Body::whole(Payload::Whole(raw), None, &headers).content
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("a vector takes it");
        encoder.finish().expect("a vector takes it")
    }

    #[test]
    fn every_coding_gives_the_same_fields() {
        let text = br#"{"a":"b"}"#;
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(text).expect("a vector takes it");
        let deflate = deflate.finish().expect("a vector takes it");
        let mut brotli = Vec::new();
        brotli::BrotliCompress(
            &mut &text[..],
            &mut brotli,
            &brotli::enc::BrotliEncoderParams::default(),
        )
        .expect("a vector takes it");
        let zstd = zstd::bulk::compress(text, 1).expect("it compresses");
        let plain = read(text, "identity");
        assert!(matches!(plain, Content::Fields(_)));
        for (raw, coding) in [
            (gzip(text), "gzip"),
            (deflate, "deflate"),
            (brotli, "br"),
            (zstd, "zstd"),
        ] {
            assert_eq!(read(&raw, coding), plain, "{coding}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        let bomb = gzip(&vec![b' '; MAX_CONTENT + 1]);
        for (raw, coding) in [
            (&bomb[..], "gzip"),
            (b"{}", "gzip"),
            (b"{}", "rot13"),
            (b"{}", "gzip, gzip"),
        ] {
            assert!(
                matches!(read(raw, coding), Content::Unreadable(_)),
                "{coding}"
            );
        }
        let beginning = Body::whole(Payload::Beginning(b"{}"), None, &HeaderMap::new());
        assert!(matches!(beginning.content, Content::Unreadable(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(
            raw in proptest::collection::vec(any::<u8>(), 0..200),
            coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "identity"]),
        ) {
            let _ = read(&raw, coding);
        }
    }
}
