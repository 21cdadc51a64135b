//! What the head of a request is sent to.

use super::{
    Malformed, Route, media_type::MediaType, multipart, path, resource, upload::Upload, xml,
};
use crate::catalog::{Endpoint, Method, variable};

/// What a request is sent to.
pub(super) enum Target<'a> {
    /// A method of the catalog.
    Method(Call<'a>),
    /// Cloud Storage's XML API.
    Xml(xml::Asked),
    /// A batch, divided by this boundary.
    Batch(String),
    /// Something on a Google host; the name is the service's and the path.
    Unknown(String),
}

pub(super) struct Call<'a> {
    pub method: &'a Method,
    pub endpoint: Endpoint<'a>,
    /// Raw, without the prefix of uploads and downloads.
    pub segments: Vec<&'a str>,
    pub upload: Option<Upload>,
}

impl<'a> Route<'a> {
    pub(super) fn find_target(&self) -> Result<Target<'a>, Malformed> {
        let segments = path::segments(self.head.path)?;
        let endpoint = self.catalog.endpoint(&self.host);
        if self.media_type.as_ref().is_some_and(MediaType::is_grpc) {
            return Ok(self.unknown(endpoint.as_ref()));
        }
        if let Some(endpoint) = &endpoint
            && endpoint.service.host == "storage.googleapis.com"
            && xml::is_xml(&segments)
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
        // Whether another API answers at a bucket's own host is nowhere said.
        let endpoint = endpoint.filter(|endpoint| endpoint.bucket.is_none());
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
            Prefix::None => match find(self.verb.name) {
                Some(_) if self.is_upload() => {
                    Err(Malformed("an upload goes to a path under /upload/".into()))
                }
                Some(method) => call(method, None),
                None => Ok(None),
            },
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

    /// Whether something says that this is a media upload.
    fn is_upload(&self) -> bool {
        let mut headers = self.head.headers.keys();
        headers.any(|name| name.as_str().starts_with("x-goog-upload-"))
            || ["upload_id", "uploadType", "upload_protocol"]
                .iter()
                .any(|name| self.query.has(name))
    }

    fn unknown(&self, endpoint: Option<&Endpoint<'_>>) -> Target<'a> {
        let host = endpoint.map_or(self.host.as_str(), |endpoint| endpoint.service.host);
        Target::Unknown(format!("//{host}{}", self.head.path))
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
                path::check_climb(&path::decode(segment)?)?;
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
