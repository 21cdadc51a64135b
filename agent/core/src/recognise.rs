//! From an HTTP request to the operations it asks for.

use http::HeaderMap;

use crate::{batch::Batch, catalog::Catalog, operation::Operation};

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
    _head: Head<'a>,
    _catalog: &'a Catalog,
}

/// Finds out what a request is from its head alone.
///
/// # Errors
/// When the head is ambiguous or carries what cannot be judged: a path that is not canonical, two verbs, a
/// credential in the query.
pub fn route<'a>(catalog: &'a Catalog, head: Head<'a>) -> Result<Route<'a>, Malformed> {
    Ok(Route {
        _head: head,
        _catalog: catalog,
    })
}

impl Route<'_> {
    /// How much of the body [`Route::complete`] wants to see.
    #[must_use]
    pub fn body_plan(&self) -> BodyPlan {
        BodyPlan::Whole
    }

    /// The operations the request asks for.
    ///
    /// # Errors
    /// When a batch cannot be taken apart without doubt. An unreadable body of a single operation is no error here: it is
    /// [`Content::Unreadable`](crate::operation::Content::Unreadable), for policy to see.
    pub fn complete(&self, _payload: Payload<'_>) -> Result<Recognised, Malformed> {
        Err(Malformed("not written yet".into()))
    }
}
