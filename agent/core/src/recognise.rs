//! From an HTTP request to the operations it asks for.
//!
//! [`route`] looks at the head: which host, verb and path is which method. [`Route::complete`] looks at the body. What
//! can be read in two ways is [`Malformed`] and refused; what is not known is `google.unknown`, for policy to deny.

mod canonical;
mod cidr;
mod content;
mod media_type;
pub(crate) mod multipart;
mod path;
mod query;
pub(crate) mod reading;
mod resource;
mod size;
mod target;
mod traits;
mod upload;
mod verb;
mod xml;

use std::sync::Arc;

use http::HeaderMap;

pub use self::reading::Reading;
use self::{
    content::Body,
    media_type::MediaType,
    query::Query,
    target::{Call, Target},
    upload::Upload,
    verb::Verb,
};
use crate::{
    batch::{self, Batch},
    catalog::{Catalog, normal_host},
    digest::Digest,
    groups,
    operation::{Action, Content, Operation, Resource},
    sql::bigquery,
    target::Target as Looked,
};

/// More header lines than this are refused.
const MAX_HEADERS: usize = 256;

/// The head of a request, as one reads it from the wire.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The verb.
    pub method: &'a str,
    /// Host or :authority; a port is allowed.
    pub authority: &'a str,
    /// The path, as sent, without the query.
    pub path: &'a str,
    /// What follows the `?`, as sent; empty if there is none.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// How much of a body has to be read before the request can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// All of it; more than the limit is unreadable.
    Whole,
    /// Object media: the beginning is enough, the rest may stream once the operation is allowed.
    Media,
    /// Nothing: it is a conversation, which goes on until its answer ends.
    Nothing,
}

/// What a request has to do with a resumable upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStep<'r> {
    /// It begins one; the answer names its id.
    Begins,
    /// It goes on with the one of this id, which alone says where the media goes: the path does not.
    GoesOn(&'r str),
}

/// As much of a body as was read.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// All of it (nothing, where there is no body).
    Whole(&'a [u8]),
    /// The beginning of something longer.
    Beginning(&'a [u8]),
}

/// What a request turned out to ask for.
#[derive(Debug)]
pub enum Recognised {
    /// One operation.
    One(Box<Operation>),
    /// A batch: each part is an operation of its own.
    Batch(Batch),
}

impl Recognised {
    /// The request itself, or the parts of the batch.
    #[must_use]
    pub fn requests(&self) -> &[Operation] {
        match self {
            Self::One(operation) => std::slice::from_ref(operation),
            Self::Batch(batch) => &batch.operations,
        }
    }

    /// The same, to be told more about.
    pub fn requests_mut(&mut self) -> &mut [Operation] {
        match self {
            Self::One(operation) => std::slice::from_mut(operation),
            Self::Batch(batch) => &mut batch.operations,
        }
    }

    /// What the SQL in these asks for, with the place of the request that it is in. Judged along with them, all or nothing.
    #[must_use]
    pub fn within(&self) -> Vec<(usize, Operation)> {
        let requests = self.requests().iter().enumerate();
        let within = requests.flat_map(|(at, request)| {
            let sql = bigquery::of_request(request).into_iter();
            sql.map(move |operation| (at, operation))
        });
        within.collect()
    }
}

/// A request that cannot be judged because it is not well formed, with what is wrong. It is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// A request of which the head is understood.
pub struct Route<'a> {
    catalog: &'a Catalog,
    head: Head<'a>,
    host: String,
    verb: Verb,
    query: Query,
    media_type: Option<MediaType>,
    target: Target<'a>,
}

/// Finds out what a request is from its head alone.
///
/// # Errors
/// When the head is ambiguous or carries what cannot be judged: a path that is not canonical, two verbs, a
/// credential in the query.
pub fn route<'a>(catalog: &'a Catalog, head: Head<'a>) -> Result<Route<'a>, Malformed> {
    if head.headers.len() > MAX_HEADERS {
        return Err(Malformed(format!(
            "there are more than {MAX_HEADERS} headers"
        )));
    }
    if head.query.len() > path::MAX_LENGTH {
        return Err(Malformed(format!(
            "the query is longer than {} bytes",
            path::MAX_LENGTH
        )));
    }
    let host = host(head.authority)?;
    if !catalog.is_google_host(&host) {
        return Err(Malformed(format!("{host} is not a host of Google's APIs")));
    }
    let mut route = Route {
        catalog,
        verb: Verb::of(&head)?,
        query: Query::parse(head.query.as_bytes())?,
        media_type: MediaType::of(head.headers)?,
        target: Target::Unknown(String::new()),
        host,
        head,
    };
    route.target = route.find_target()?;
    if let Target::Method(call) = &route.target {
        route.query.check_for(call.method)?;
    }
    Ok(route)
}

/// The host that an authority names.
///
/// # Errors
/// When it is no host, or has a port other than 443.
pub fn host(authority: &str) -> Result<String, Malformed> {
    let host = match authority.split_once(':') {
        None | Some((_, "443")) => authority.split(':').next().unwrap_or_default(),
        Some(_) => return Err(Malformed("the host has a port other than 443".into())),
    };
    normal_host(host).ok_or_else(|| Malformed("the host is not a host name".into()))
}

/// Whether a header is a credential. Holdpoint sends its own; what an agent brings along never leaves.
#[must_use]
pub fn is_credential_header(name: &str) -> bool {
    const CREDENTIALS: [&str; 8] = [
        "authorization",
        "cookie",
        "cookie2",
        "proxy-authorization",
        "x-goog-api-key",
        "x-goog-iam-authority-selector",
        "x-goog-iam-authorization-token",
        "x-serverless-authorization",
    ];
    CREDENTIALS
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// What a body says once `Content-Encoding` is undone, as it is judged; `None` where it cannot be read.
#[must_use]
pub fn decoded(body: &[u8], headers: &HeaderMap) -> Option<Vec<u8>> {
    content::decode(body, headers).ok()
}

impl<'a> Route<'a> {
    /// How much of the body [`Route::complete`] wants to see.
    #[must_use]
    pub fn body_plan(&self) -> BodyPlan {
        match &self.target {
            Target::Method(Call {
                upload: Some(Upload::Simple | Upload::Multipart | Upload::Chunk),
                ..
            }) => BodyPlan::Media,
            Target::Xml(asked) if asked.is_media => BodyPlan::Media,
            Target::Unknown(_) if is_sql_data_service(self.head.path) => BodyPlan::Nothing,
            _ => BodyPlan::Whole,
        }
    }

    /// What it has to do with a resumable upload, if anything.
    #[must_use]
    pub fn upload(&self) -> Option<UploadStep<'_>> {
        let Target::Method(call) = &self.target else {
            return None;
        };
        match call.upload? {
            Upload::Start => Some(UploadStep::Begins),
            Upload::Chunk => self.query.value("upload_id").map(UploadStep::GoesOn),
            Upload::Simple | Upload::Multipart => None,
        }
    }

    /// The host the request is for, in lower case, without port and trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The operations the request asks for.
    ///
    /// # Errors
    /// When a batch cannot be taken apart without doubt. An unreadable body of a single operation is no error here: it is
    /// [`Content::Unreadable`], for policy to see.
    pub fn complete(&self, payload: Payload<'_>) -> Result<Recognised, Malformed> {
        if let Target::Batch(boundary) = &self.target {
            let Payload::Whole(body) = payload else {
                return Err(Malformed(
                    "the batch is longer than what Holdpoint reads".into(),
                ));
            };
            return batch::take_apart(self.catalog, &self.head, boundary, body)
                .map(Recognised::Batch);
        }
        self.operation(payload).map(Box::new).map(Recognised::One)
    }

    /// The one operation of a request that is no batch.
    fn operation(&self, payload: Payload<'_>) -> Result<Operation, Malformed> {
        let body = self.body(payload)?;
        let mut query = self.query.clone();
        query.extend(body.form.clone())?;
        let (action, resource, segments) = self.asked(&body, &query)?;
        let (headers, verb) = (self.head.headers, self.verb.name);
        let traits = traits::of(
            action.id(),
            verb,
            &query,
            headers,
            &segments,
            body.json.as_ref(),
        );
        let size = size::of(action.id(), &query, body.json.as_ref());
        let mut operation = Operation {
            digest: Digest::of(&[]),
            size,
            answers_media: self.answers_media(&query),
            contains: None,
            method: verb.to_owned(),
            host: self.host.clone(),
            port: None,
            path: self.head.path.to_owned(),
            query: query.0,
            json: body
                .json
                .filter(|_| matches!(body.content, Content::Fields(_)))
                .map(Arc::new),
            content: body.content,
            target: Looked::NotLookedUp,
            action,
            resource,
            traits,
        };
        operation.digest = canonical::digest(
            &operation,
            headers,
            self.media_type.as_ref(),
            &body.canonical,
        );
        Ok(operation)
    }

    /// Whether the answer is an object's content (<https://cloud.google.com/storage/docs/downloading-objects>): of a method that
    /// has such answers, where it is asked for one; another method would not mind what it is asked.
    fn answers_media(&self, query: &Query) -> bool {
        let asks = || {
            self.head.path.starts_with("/download/")
                || query
                    .value("alt")
                    .or_else(|| query.value("$alt"))
                    .is_some_and(|alt| alt.split(';').next() == Some("media"))
        };
        match &self.target {
            Target::Method(call) => call.method.downloads && asks(),
            Target::Xml(asked) => asked.id == Some("storage.objects.get"),
            Target::Batch(_) | Target::Unknown(_) => false,
        }
    }

    fn body(&self, payload: Payload<'_>) -> Result<Body, Malformed> {
        let (media_type, headers) = (self.media_type.as_ref(), self.head.headers);
        if self.verb.form_is_query {
            return Body::query(payload, media_type, headers);
        }
        let upload = match &self.target {
            Target::Method(call) => call.upload,
            Target::Xml(asked) if asked.is_media => Some(Upload::Simple),
            _ => None,
        };
        Ok(match upload {
            Some(Upload::Simple | Upload::Chunk) => Body::media(payload),
            Some(Upload::Multipart) => Body::multipart(payload, media_type, headers),
            Some(Upload::Start) | None => Body::whole(payload, media_type, headers),
        })
    }

    /// The action, what it is on, and the raw segments that hold the variables.
    fn asked(
        &self,
        body: &Body,
        query: &Query,
    ) -> Result<(Action, Resource, Vec<&str>), Malformed> {
        match &self.target {
            Target::Method(call) => {
                query.check_for(call.method)?;
                let mut resource =
                    resource::of(call.method, &call.endpoint, &call.segments, query)?;
                if call.method.id == "storage.objects.insert"
                    && let Some(object) = inserted(body, query)
                {
                    resource.name = format!("{}/{object}", resource.name);
                }
                let (id, verb) = (call.method.id, call.method.verb);
                let action = Action::new(id, groups::classify(id, verb));
                Ok((action, resource, call.segments.clone()))
            }
            Target::Xml(asked) => {
                let action = asked.id.and_then(|id| {
                    let verb = self.catalog.verb(id)?;
                    Some(Action::new(id, groups::classify(id, verb)))
                });
                Ok((
                    action.unwrap_or_else(Action::unknown),
                    asked.resource.clone(),
                    Vec::new(),
                ))
            }
            Target::Unknown(name) => {
                let resource = Resource {
                    name: name.clone(),
                    ..Resource::default()
                };
                Ok((Action::unknown(), resource, Vec::new()))
            }
            Target::Batch(_) => Err(Malformed("there is a batch inside a batch".into())),
        }
    }

    /// The operation of a part of a batch. Google takes neither batches nor media there.
    pub(crate) fn part(&self, payload: Payload<'_>) -> Result<Operation, Malformed> {
        match &self.target {
            Target::Method(Call {
                upload: Some(_), ..
            })
            | Target::Xml(_) => Err(Malformed(format!(
                "{} cannot be part of a batch",
                self.head.path
            ))),
            _ => self.operation(payload),
        }
    }
}

/// `google.cloud.sql.v1beta4.SqlDataService`, of any version: a database connection in a stream.
fn is_sql_data_service(path: &str) -> bool {
    let service = path.strip_prefix("/google.cloud.sql.");
    service.is_some_and(|it| it.contains(".SqlDataService/"))
}

/// The name of an inserted object: the query's overrides the metadata's.
fn inserted<'b>(body: &'b Body, query: &'b Query) -> Option<&'b str> {
    let in_metadata = || body.json.as_ref()?.field("name")?.text();
    query.value("name").or_else(in_metadata)
}

#[cfg(test)]
mod tests;
