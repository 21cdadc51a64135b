//! What one request's answer and trace are to look like.

use std::{collections::BTreeSet, sync::Arc};

use holdpoint_core::{
    groups::Group,
    mask::MaskSet,
    operation::Operation,
    policy::{Recording, Terms},
    refusal::{Kind, Refusal, describe},
};
use http::{HeaderMap, HeaderValue, header};

use super::{MINTED, Masking, is_media};
use crate::config::RecordedBodies;

/// What becomes of one request's answer.
pub struct Plan {
    /// What is masked towards the agent, for each operation.
    pub(super) parts: Vec<Option<Arc<MaskSet>>>,
    /// For the record: `None` where no content is kept.
    pub(super) copy: Option<Arc<MaskSet>>,
    /// For headers in the record.
    pub(super) always: Arc<MaskSet>,
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
        bodies: RecordedBodies,
        is_batch: bool,
    ) -> Result<Plan, Refusal> {
        let is_media = is_media(operations);
        let mut parts = Vec::with_capacity(operations.len());
        let mut keeps = false;
        for (operation, terms) in operations.iter().zip(terms) {
            keeps |= terms.record == Recording::Bodies || bodies.include(operation);
            if is_media {
                if !terms.masks.is_empty() && !terms.unmasked {
                    return Err(unmaskable_media(operation));
                }
                parts.push(None);
                continue;
            }
            let union = self.union(sets(operation, terms)).map_err(|error| {
                // Loading refuses such policies.
                Refusal::new(Kind::NotReady, format!("Holdpoint cannot mask the answer to {}, so it was not asked: {error}", describe(operation)))
            })?;
            parts.push(union);
        }
        Ok(Plan {
            parts,
            copy: (keeps && !is_media).then(|| self.always.clone()),
            always: self.always.clone(),
            injected: self.credentials.with(authorization),
            is_media,
            is_batch,
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
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove("grpc-accept-encoding");
        if self.masks() {
            // A piece of something cannot be masked; whoever is asked may answer with all of it (RFC 9110, section 14.2).
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
    }

    /// The set for an answer that is not divided: all of them.
    pub(super) fn whole(&self) -> Option<&Arc<MaskSet>> {
        self.parts.first().and_then(Option::as_ref)
    }
}

/// What a reply is masked by: what policy says, and for what mints credentials the default.
fn sets(operation: &Operation, terms: &Terms) -> BTreeSet<String> {
    let mut sets = terms.masks.clone();
    let mints = operation.action.groups().contains(Group::Secret);
    if mints && !terms.unmasked {
        sets.insert(MINTED.to_owned());
    }
    sets
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
