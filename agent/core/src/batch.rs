//! `multipart/mixed` batches of HTTP requests
//! (<https://cloud.google.com/storage/docs/batch>, <https://cloud.google.com/compute/docs/api/how-tos/batch>).

mod answers;

pub use answers::{Answer, Answers};

use http::{HeaderMap, HeaderValue, header};

use crate::{
    catalog::Catalog,
    operation::Operation,
    recognise::{
        self, Head, Malformed, Payload, is_credential_header,
        multipart::{self, Next, Parts},
    },
};

/// The largest batch, in bytes. Cloud Storage takes 10 MB.
const MAX_BATCH: usize = 16 << 20;
/// The most parts. Compute Engine and most others take 1000.
const MAX_PARTS: usize = 1000;
/// The most headers of a part's request.
const MAX_HEADERS: usize = 64;

/// A batch that was taken apart without doubt.
#[derive(Debug)]
pub struct Batch {
    /// The parts, in order.
    pub operations: Vec<Operation>,
    /// The body made anew from the parts as they were understood, without any credential a part carried: what goes
    /// upstream is what was judged. Goes with the `Content-Type` of the original request.
    pub body: Vec<u8>,
    /// The `Content-ID` of each part, where it has one.
    pub names: Vec<Option<HeaderValue>>,
}

/// Takes a batch apart and recognises its parts. `outer` is the head it came with.
pub(crate) fn take_apart(
    catalog: &Catalog,
    outer: &Head<'_>,
    boundary: &str,
    body: &[u8],
) -> Result<Batch, Malformed> {
    if outer
        .headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| coding != "identity")
    {
        return Err(Malformed("the batch is compressed; send it plain".into()));
    }
    let parts = parse(body, boundary).map_err(|why| Malformed(format!("the batch: {why}")))?;
    let operations = parts.iter().enumerate().map(|(number, part)| {
        part.operation(catalog, outer)
            .map_err(|error| Malformed(format!("part {} of the batch: {error}", number + 1)))
    });
    Ok(Batch {
        operations: operations.collect::<Result<_, _>>()?,
        body: serialise(&parts, boundary),
        names: parts.into_iter().map(|part| part.content_id).collect(),
    })
}

/// One request of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    content_id: Option<HeaderValue>,
    method: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn parse(body: &[u8], boundary: &str) -> Result<Vec<Part>, String> {
    if body.len() > MAX_BATCH {
        return Err(format!("it is longer than {MAX_BATCH} bytes"));
    }
    let mut walk = Parts::new(body, boundary)?;
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    loop {
        let raw = match walk.next()? {
            Next::Part(raw) => raw,
            Next::Open(_) => return Err("it does not end".into()),
            Next::End if parts.is_empty() => return Err("it has no parts".into()),
            Next::End => return Ok(parts),
        };
        if parts.len() == MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} parts"));
        }
        // Some reader may find a delimiter where there is none.
        if multipart::contains(raw, delimiter.as_bytes()) {
            return Err(format!("part {} holds its boundary", parts.len() + 1));
        }
        let part = Part::parse(raw);
        parts.push(part.map_err(|why| format!("part {}: {why}", parts.len() + 1))?);
    }
}

fn serialise(parts: &[Part], boundary: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        out.extend_from_slice(
            b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n",
        );
        if let Some(id) = &part.content_id {
            line(&mut out, b"Content-ID", id);
        }
        let (method, target) = (&part.method, &part.target);
        out.extend_from_slice(format!("\r\n{method} {target} HTTP/1.1\r\n").as_bytes());
        for (name, value) in &part.headers {
            line(&mut out, name.as_str().as_bytes(), value);
        }
        out.extend_from_slice(format!("content-length: {}\r\n\r\n", part.body.len()).as_bytes());
        out.extend_from_slice(&part.body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &HeaderValue) {
    for piece in [name, b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

impl Part {
    fn parse(raw: &[u8]) -> Result<Self, String> {
        let (envelope, request) = multipart::headers(raw)?;
        check_envelope(&envelope)?;
        let content_id = one(&envelope, "content-id")?.cloned();
        // Some clients leave out the empty line behind the headers where no body follows.
        let ended: Vec<u8>;
        let (mut head, rest) = match head(request)? {
            Some(read) => read,
            None => {
                ended = [request, b"\r\n\r\n"].concat();
                head(&ended)?.ok_or("its request does not end")?
            }
        };
        let body = sized_body(&head.headers, rest)?.to_vec();
        head.headers.remove(header::CONTENT_LENGTH);
        Ok(Self {
            content_id,
            body,
            ..head
        })
    }

    /// What the part asks for, with the headers it inherits from the batch.
    fn operation(&self, catalog: &Catalog, outer: &Head<'_>) -> Result<Operation, Malformed> {
        let headers = self.inherit(outer.headers);
        let (authority, target) = self.split_target(catalog, outer)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let head = Head {
            method: &self.method,
            authority: &authority,
            path,
            query,
            headers: &headers,
        };
        recognise::route(catalog, head)?.part(Payload::Whole(&self.body))
    }

    /// Headers around a batch hold for each part that does not have them itself, but for those on its content.
    fn inherit(&self, outer: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        let inherited = outer.keys().filter(|name| {
            let own = matches!(name.as_str(), "host" | "transfer-encoding" | "mime-version");
            !own && !name.as_str().starts_with("content-") && !self.headers.contains_key(*name)
        });
        for name in inherited {
            for value in outer.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    /// The host and the path with its query. Every host a part names is the service's that the batch went to.
    fn split_target<'a>(
        &'a self,
        catalog: &Catalog,
        outer: &Head<'_>,
    ) -> Result<(String, &'a str), Malformed> {
        let whole = recognise::host(outer.authority)?;
        let in_header = one(&self.headers, "host").map_err(Malformed)?;
        let in_header = in_header.map(|value| value.to_str().unwrap_or_default());
        let absolute = ["https://", "http://"]
            .iter()
            .find_map(|scheme| self.target.strip_prefix(scheme));
        let (in_target, target) = match absolute {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, self.target.as_str()),
        };
        let mut named = None;
        for authority in [in_target, in_header].into_iter().flatten() {
            let host = recognise::host(authority)?;
            if named.as_ref().is_some_and(|named| *named != host) {
                return Err(Malformed("it names two hosts".into()));
            }
            if !same_service(catalog, &host, &whole) {
                return Err(Malformed(format!(
                    "it is for {host}, and the batch went to {whole}"
                )));
            }
            named = Some(host);
        }
        Ok((named.unwrap_or(whole), target))
    }
}

fn same_service(catalog: &Catalog, one: &str, other: &str) -> bool {
    let service = |host| catalog.endpoint(host).filter(|e| e.bucket.is_none());
    one == other
        || matches!((service(one), service(other)), (Some(one), Some(other))
            if one.service.host == other.service.host && one.location == other.location)
}

fn check_envelope(envelope: &HeaderMap) -> Result<(), String> {
    let is = |name, known: &[&str]| -> Result<bool, String> {
        let value = one(envelope, name)?.map(|value| value.to_str().unwrap_or_default());
        Ok(value.is_none_or(|value| {
            known
                .iter()
                .any(|known| value.trim().eq_ignore_ascii_case(known))
        }))
    };
    let http = [
        "application/http",
        "application/http; msgtype=request",
        "application/http;msgtype=request",
    ];
    if !envelope.contains_key(header::CONTENT_TYPE) || !is("content-type", &http)? {
        return Err("it is not application/http".into());
    }
    if !is("content-transfer-encoding", &["binary", "7bit", "8bit"])?
        || envelope.contains_key(header::CONTENT_ENCODING)
    {
        return Err("it is encoded".into());
    }
    Ok(())
}

/// The head of a part's request and what follows it, if the head ends. Credentials and what concerns a connection are
/// left behind.
fn head(request: &[u8]) -> Result<Option<(Part, &[u8])>, String> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    let length = match parsed.parse(request) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("its request is not well formed ({error})")),
    };
    let mut headers = multipart::map(parsed.headers)?;
    for refused in ["transfer-encoding", "upgrade", "trailer", "expect", "te"] {
        if headers.contains_key(refused) {
            return Err(format!("the header {refused} has no meaning there"));
        }
    }
    let dropped = |name: &str| {
        is_credential_header(name)
            || matches!(name, "connection" | "keep-alive" | "proxy-connection")
    };
    let dropped: Vec<_> = headers
        .keys()
        .filter(|name| dropped(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    let part = Part {
        content_id: None,
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
    };
    Ok(Some((part, &request[length..])))
}

/// As much of `rest` as the request says its body is; nothing but line ends may follow.
fn sized_body<'a>(headers: &HeaderMap, rest: &'a [u8]) -> Result<&'a [u8], String> {
    let blank = |text: &[u8]| text.iter().all(|b| matches!(b, b'\r' | b'\n'));
    let Some(value) = one(headers, "content-length")? else {
        return Ok(if blank(rest) { &[] } else { rest });
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length: usize = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or("its Content-Length is no number")?;
    match rest.split_at_checked(length) {
        Some((body, after)) if blank(after) => Ok(body),
        _ => Err("its Content-Length is not its length".into()),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(format!("{name} is given twice"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
