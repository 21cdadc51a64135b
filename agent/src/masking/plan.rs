//! What one request's answer and trace are to look like.

use std::{collections::BTreeSet, sync::Arc};

use holdpoint_core::{
    groups::Group,
    mask::{Bound, Form, MaskSet, Masker},
    operation::Operation,
    policy::{Recording, Terms},
    recognise,
    refusal::{Kind, Refusal, describe},
};
use http::{HeaderMap, HeaderValue, header};

use super::{MINTED, Masking, flow::Copy, is_media};
use crate::{
    record::{OperationId, Pairs, Record, Way},
    session::SessionId,
};

/// What becomes of one request's answer.
pub struct Plan {
    /// What is masked towards the agent, for each operation.
    pub(super) parts: Vec<Option<Arc<MaskSet>>>,
    /// For the record: `None` where no content is kept.
    pub(super) copy: Option<Arc<MaskSet>>,
    /// Whether the record gets the headers.
    keeps_headers: bool,
    /// Whether something asked for deals in credentials.
    mints: bool,
    always: Arc<MaskSet>,
    /// What answers must not show.
    pub(super) injected: Arc<super::injected::Injected>,
    pub(super) is_media: bool,
    pub(super) is_batch: bool,
}

impl Masking {
    /// What the terms of the permits, and the configuration, make of a request.
    ///
    /// # Errors
    /// When the answer would have to be masked and cannot be, which is known before anything is sent.
    pub fn plan<'a>(
        &self,
        operations: &[Operation],
        terms: impl Iterator<Item = &'a Terms>,
        authorization: &HeaderValue,
        is_batch: bool,
    ) -> Result<Plan, Refusal> {
        let is_media = is_media(operations);
        let mut parts = Vec::with_capacity(operations.len());
        let mut record = Recording::Summary;
        for (operation, terms) in operations.iter().zip(terms) {
            record = record.max(terms.record);
            if self.bodies.include(operation) {
                record = Recording::Bodies;
            }
            if is_media {
                if !terms.masks.is_empty() && !terms.unmasked {
                    return Err(unmaskable_media(operation));
                }
                parts.push(None);
                continue;
            }
            let sets = sets(operation, terms);
            if sets.is_empty() {
                parts.push(None);
                continue;
            }
            let union = self
                .masks
                .union(sets.iter().map(String::as_str))
                .map_err(|error| {
                    // Loading refuses such policies.
                    Refusal::new(
                        Kind::NotReady,
                        format!(
                            "Holdpoint cannot mask the answer to {}, so it was not asked: {error}",
                            describe(operation)
                        ),
                    )
                })?;
            parts.push(Some(union));
        }
        Ok(Plan {
            parts,
            copy: (record == Recording::Bodies && !is_media).then(|| self.always.clone()),
            keeps_headers: record >= Recording::Headers,
            mints: operations.iter().any(mints),
            always: self.always.clone(),
            injected: self.credentials.with(authorization),
            is_media,
            is_batch,
        })
    }
}

impl Masking {
    /// A statement, and what is bound to it, for people.
    #[must_use]
    pub fn shown_query(&self, text: &str, bound: &[Bound<'_>]) -> (String, Vec<Option<String>>) {
        let statement = self.always.shown_statement(text);
        let parameters = match bound {
            [] => Vec::new(),
            bound => self.always.shown_parameters(text, bound),
        };
        (statement, parameters)
    }

    /// What is masked in rows, COPY data and parameters that the record keeps of a statement with these operations; nothing where it
    /// keeps none.
    #[must_use]
    pub fn kept(&self, operations: &[Operation], terms: &[Terms]) -> Option<Arc<MaskSet>> {
        let by_policy = terms.iter().any(|it| it.record == Recording::Bodies);
        let keeps = by_policy || operations.iter().any(|it| self.bodies.include(it));
        keeps.then(|| self.always.clone())
    }

    /// What rows are masked by that these operations ask a database for; nothing where they are not.
    ///
    /// # Errors
    /// When there is no such set, which loading the policies refuses.
    pub fn rows(
        &self,
        operations: &[Operation],
        terms: &[Terms],
    ) -> Result<Option<Arc<MaskSet>>, Refusal> {
        let mut wanted = BTreeSet::new();
        for (operation, terms) in operations.iter().zip(terms) {
            wanted.extend(sets(operation, terms));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let union = self.masks.union(wanted.iter().map(String::as_str));
        union.map(Some).map_err(|error| {
            Refusal::new(
                Kind::NotReady,
                format!("Holdpoint cannot mask these rows, so they were not asked for: {error}"),
            )
        })
    }
}

impl Plan {
    /// Whether something is masked towards the agent.
    #[must_use]
    pub fn masks(&self) -> bool {
        self.parts.iter().any(Option::is_some)
    }

    /// Asks for an answer that can be read as it comes. Media is another matter: what is compressed may be stored that way.
    pub fn ask_for_plain(&self, headers: &mut HeaderMap) {
        if self.is_media {
            return;
        }
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        headers.remove("grpc-accept-encoding");
        if self.masks() {
            // A piece of something cannot be masked; whoever is asked may answer with all of it (RFC 9110, section 14.2).
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
    }

    /// What the record gets of the head of an answer.
    #[must_use]
    pub fn recorded_headers(&self, headers: &HeaderMap) -> Pairs {
        match self.keeps_headers {
            false => Pairs::default(),
            true => headers
                .iter()
                .map(|(name, value)| {
                    let text = String::from_utf8_lossy(value.as_bytes());
                    let text = match self.injected.is_in(text.as_bytes()) {
                        true => "[masked]".into(),
                        false => self.always.value(name.as_str(), &text).into_owned(),
                    };
                    (name.as_str().to_owned(), text)
                })
                .collect(),
        }
    }

    /// Keeps the body of a request that was read whole, where bodies are kept.
    pub fn capture_request(
        &self,
        record: &Record,
        session: &SessionId,
        operation: &OperationId,
        headers: &HeaderMap,
        body: &[u8],
    ) {
        let Some(set) = self.copy.as_ref().filter(|_| !body.is_empty()) else {
            return;
        };
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        if !self.may_keep(&Form::of(content_type)) {
            return;
        }
        let copy = Copy {
            mask: Masker::new(set.clone(), Form::of(content_type)),
            capture: record.capture(session, operation, Way::Request, content_type),
        };
        // What cannot be read leaves its type, and that it is not all there.
        if let Some(plain) = recognise::decoded(body, headers) {
            copy.all(&plain);
        }
    }

    /// Whether credentials would be found in a body of this form, if there may be any in it.
    pub(super) fn may_keep(&self, form: &Form) -> bool {
        !self.mints || self.always.sees_minted(form)
    }

    /// The set for an answer that is not divided: all of them.
    pub(super) fn whole(&self) -> Option<&Arc<MaskSet>> {
        self.parts.first().and_then(Option::as_ref)
    }
}

/// What a reply is masked by: what policy says, and for what mints credentials the default.
fn sets(operation: &Operation, terms: &Terms) -> BTreeSet<String> {
    let mut sets = terms.masks.clone();
    if mints(operation) && !terms.unmasked {
        sets.insert(MINTED.to_owned());
    }
    sets
}

fn mints(operation: &Operation) -> bool {
    operation.action.groups().contains(Group::Secret)
}

fn unmaskable_media(operation: &Operation) -> Refusal {
    Refusal::new(
        Kind::Denied,
        format!(
            "Holdpoint denied this: {} would answer with an object's content, which policy wants masked (@mask), and content is \
             never altered. Nothing was sent. The owners of the policy can allow it with a permit that has @mask(\"none\").",
            describe(operation)
        ),
    )
}
