//! What is masked on its way: answers to the agent, and whatever is stored or shown.

mod answer;
mod batch;
mod coding;
mod flow;
mod grpc;
mod headers;
mod injected;
mod key;
mod outgoing;
mod plan;
mod rewrite;
mod shown;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use holdpoint_core::{
    mask::{self, MaskSet, Masks, UnknownSet},
    operation::Operation,
};

use crate::config::Config;

pub use answer::Answering;
pub use outgoing::Watch;
pub use plan::Plan;

/// What mints credentials is masked by this, towards the agent too.
const MINTED: &str = "minted";
/// What is stored, shown or sent to people is masked by these, whatever the configuration says.
const ALWAYS: [&str; 2] = ["secrets", MINTED];
/// What requests are searched for where policy asks what they contain, besides the configuration's own sets.
const SEARCHED: [&str; 2] = ["secrets", "pii"];

/// Something that has to be masked and cannot be read: it is withheld.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<mask::Unreadable> for Unreadable {
    fn from(error: mask::Unreadable) -> Self {
        Self(error.to_string())
    }
}

/// What is masked, by name and by default.
pub struct Masking {
    masks: Masks,
    /// For the record and for people.
    always: Arc<MaskSet>,
    searched: Arc<MaskSet>,
    credentials: injected::Credentials,
    /// Unions that policies have asked for.
    unions: Mutex<HashMap<BTreeSet<String>, Arc<MaskSet>>>,
}

impl Masking {
    /// As the configuration says.
    ///
    /// # Errors
    /// When a set of it cannot be used, or it names one that is not there.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let key = key::open(&config.state_dir)?;
        let masks = Masks::new(&config.masks, *key).context("a [[mask]] cannot be used")?;
        let also = config.masking.also.iter().map(String::as_str);
        let own = config.masks.iter().map(|set| set.name.as_str());
        Ok(Self {
            always: masks
                .union(ALWAYS.into_iter().chain(also))
                .context("[masking] also")?,
            searched: masks.union(SEARCHED.into_iter().chain(own))?,
            credentials: injected::Credentials::default(),
            unions: Mutex::default(),
            masks,
        })
    }

    fn union(&self, names: BTreeSet<String>) -> Result<Option<Arc<MaskSet>>, UnknownSet> {
        if names.is_empty() {
            return Ok(None);
        }
        let mut unions = self.unions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = unions.get(&names) {
            return Ok(Some(known.clone()));
        }
        let union = self.masks.union(names.iter().map(String::as_str))?;
        // Policies name few sets; those of policies that are gone need not be kept for ever.
        if unions.len() == 256 {
            unions.clear();
        }
        unions.insert(names, union.clone());
        Ok(Some(union))
    }
}

/// Whether the answer is an object's content, which is passed or withheld and never altered.
fn is_media(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| operation.answers_media)
}
