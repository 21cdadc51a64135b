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
mod resource;
mod traits;
mod upload;
mod verb;
mod xml;

use http::HeaderMap;

use self::{content::Body, media_type::MediaType, query::Query, upload::Upload, verb::Verb};
use crate::{
    batch::{self, Batch},
    catalog::{Catalog, Endpoint, Method, normal_host, variable},
    digest::Digest,
    groups,
    operation::{Action, Content, Operation, Resource},
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

/// What a request is sent to.
enum Target<'a> {
    /// A method of the catalog.
    Method(Call<'a>),
    /// Cloud Storage's XML API.
    Xml(xml::Asked),
    /// A batch, divided by this boundary.
    Batch(String),
    /// Something on a Google host; the name is the service's and the path.
    Unknown(String),
}

struct Call<'a> {
    method: &'a Method,
    endpoint: Endpoint<'a>,
    /// Raw, without the prefix of uploads and downloads.
    segments: Vec<&'a str>,
    upload: Option<Upload>,
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

impl<'a> Route<'a> {
    fn find_target(&self) -> Result<Target<'a>, Malformed> {
        let segments = path::segments(self.head.path)?;
        let endpoint = self.catalog.endpoint(&self.host);
        if self.media_type.as_ref().is_some_and(MediaType::is_grpc) {
            return Ok(self.unknown(endpoint.as_ref()));
        }
        if let Some(endpoint) = &endpoint
            && endpoint.service.host == "storage.googleapis.com"
            && (endpoint.bucket.is_some() || xml::is_xml(&segments))
        {
            if self.head.method != self.verb.name {
                return Err(Malformed(
                    "Cloud Storage's XML API knows no other verb than the sent".into(),
                ));
            }
            let bucket = endpoint.bucket.as_deref();
            let (verb, headers) = (self.verb.name, self.head.headers);
            return xml::route(bucket, &segments, verb, &self.query, headers).map(Target::Xml);
        }
        if segments.first() == Some(&"batch") {
            return self.batch(&segments, endpoint.as_ref());
        }
        if let Some(endpoint) = &endpoint
            && let Some(call) = self.call(endpoint, &segments)?
        {
            call.check_path()?;
            return Ok(Target::Method(call));
        }
        if self.head.path != "/" {
            segments
                .iter()
                .try_for_each(|segment| path::check_strict(segment))?;
        }
        Ok(self.unknown(endpoint.as_ref()))
    }

    fn call(
        &self,
        endpoint: &Endpoint<'a>,
        segments: &[&'a str],
    ) -> Result<Option<Call<'a>>, Malformed> {
        let (prefix, rest) = match self
            .catalog
            .find(endpoint.service, self.verb.name, segments)
        {
            Some(_) => (Prefix::None, segments),
            None => prefix(segments),
        };
        let find = |verb| self.catalog.find(endpoint.service, verb, rest);
        let call = |method, upload| {
            let (endpoint, segments) = (endpoint.clone(), rest.to_vec());
            Ok(Some(Call {
                method,
                endpoint,
                segments,
                upload,
            }))
        };
        match prefix {
            Prefix::None => find(self.verb.name).map_or(Ok(None), |method| call(method, None)),
            Prefix::Download => match find(self.verb.name).filter(|method| method.downloads) {
                Some(method) => call(method, None),
                None => Ok(None),
            },
            Prefix::Upload => {
                let goes_on = self.query.has("upload_id");
                let verbs = [self.verb.name, "POST", "PUT", "PATCH"];
                // What goes on with an upload need not have the verb that started it.
                let verbs = &verbs[..if goes_on { verbs.len() } else { 1 }];
                let method = verbs
                    .iter()
                    .find_map(|verb| find(verb).filter(|method| method.uploads));
                let known = matches!(self.verb.name, "POST" | "PUT" | "PATCH" | "DELETE");
                match method.filter(|_| known) {
                    Some(method) => call(method, Some(Upload::of(&self.head, &self.query)?)),
                    None => Ok(None),
                }
            }
        }
    }

    fn batch(
        &self,
        segments: &[&str],
        endpoint: Option<&Endpoint<'_>>,
    ) -> Result<Target<'a>, Malformed> {
        segments
            .iter()
            .try_for_each(|segment| path::check_strict(segment))?;
        let mixed = self
            .media_type
            .as_ref()
            .filter(|media_type| media_type.essence == "multipart/mixed");
        let Some(mixed) = mixed else {
            return Ok(self.unknown(endpoint));
        };
        // Parts inherit the headers around them, so a second verb here would be theirs.
        if self.head.method != "POST" || self.head.headers.contains_key("x-http-method-override") {
            return Err(Malformed("a batch is a POST and nothing else".into()));
        }
        if !self.query.0.is_empty() {
            return Err(Malformed("a batch has no query".into()));
        }
        let boundary = multipart::boundary(mixed, false)
            .map_err(|why| Malformed(format!("the batch: {why}")))?;
        Ok(Target::Batch(boundary.to_owned()))
    }

    fn unknown(&self, endpoint: Option<&Endpoint<'_>>) -> Target<'a> {
        let host = endpoint.map_or(self.host.as_str(), |endpoint| endpoint.service.host);
        Target::Unknown(format!("//{host}{}", self.head.path))
    }

    /// How much of the body [`Route::complete`] wants to see.
    #[must_use]
    pub fn body_plan(&self) -> BodyPlan {
        match &self.target {
            Target::Method(Call {
                upload: Some(Upload::Simple | Upload::Multipart | Upload::Chunk),
                ..
            }) => BodyPlan::Media,
            Target::Xml(asked) if asked.is_media => BodyPlan::Media,
            _ => BodyPlan::Whole,
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
        let mut operation = Operation {
            digest: Digest::of(&[]),
            method: verb.to_owned(),
            host: self.host.clone(),
            port: None,
            path: self.head.path.to_owned(),
            query: query.0,
            content: body.content,
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

    fn body(&self, payload: Payload<'_>) -> Result<Body, Malformed> {
        let (media_type, headers) = (self.media_type.as_ref(), self.head.headers);
        if self.verb.form_is_query {
            let body = Body::whole(payload, media_type, headers)?;
            let is_form = media_type.is_some_and(MediaType::is_form);
            return match body.content {
                Content::Empty => Ok(body),
                Content::Fields(_) if is_form => Ok(Body {
                    content: Content::Empty,
                    ..body
                }),
                _ => Err(Malformed(
                    "a GET in a POST has no body but its query".into(),
                )),
            };
        }
        let upload = match &self.target {
            Target::Method(call) => call.upload,
            Target::Xml(asked) if asked.is_media => Some(Upload::Simple),
            _ => None,
        };
        match upload {
            Some(Upload::Simple | Upload::Chunk) => Ok(Body::media(payload)),
            Some(Upload::Multipart) => Ok(Body::multipart(payload, media_type, headers)),
            Some(Upload::Start) | None => Body::whole(payload, media_type, headers),
        }
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
            Target::Method(Call { upload: None, .. }) | Target::Batch(_) => self.operation(payload),
            _ => Err(Malformed(format!(
                "{} cannot be part of a batch",
                self.head.path
            ))),
        }
    }
}

impl Call<'_> {
    /// Nothing in the path may be read in two ways; only an object's name is opaque.
    fn check_path(&self) -> Result<(), Malformed> {
        for (template, segment) in resource::aligned(self.method.template, &self.segments) {
            let opaque =
                variable(template).is_some_and(|name| resource::is_object(self.method, name));
            if opaque && !segment.is_empty() {
                path::check_dots(segment)?;
            } else {
                path::check_strict(segment)?;
            }
        }
        let last = self.segments.last().copied().unwrap_or_default();
        let decoded = path::decode(last)?;
        if let Some((_, verb)) = decoded.rsplit_once(':')
            && self.endpoint.service.has_custom_verb(verb)
            && !last.ends_with(&format!(":{verb}"))
        {
            return Err(Malformed(format!(
                "the path has an escaped {:?}",
                format!(":{verb}")
            )));
        }
        Ok(())
    }
}

/// The name of an inserted object: the query's overrides the metadata's.
fn inserted<'b>(body: &'b Body, query: &'b Query) -> Option<&'b str> {
    let in_metadata = || body.json.as_ref()?.field("name")?.text();
    query.value("name").or_else(in_metadata)
}

enum Prefix {
    None,
    Upload,
    Download,
}

fn prefix<'s, 'a>(segments: &'s [&'a str]) -> (Prefix, &'s [&'a str]) {
    match segments {
        ["upload", rest @ ..] | ["resumable", "upload", rest @ ..] => (Prefix::Upload, rest),
        ["download", rest @ ..] if !rest.is_empty() => (Prefix::Download, rest),
        _ => (Prefix::None, segments),
    }
}

#[cfg(test)]
mod tests;
