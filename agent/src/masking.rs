//! What is masked on its way: answers to the agent, and whatever is stored or shown.

mod answer;
mod batch;
mod coding;
mod flow;
mod grpc;
mod headers;
mod injected;
mod key;
mod names;
mod outgoing;
mod plan;
mod shown;

use std::sync::Arc;

use anyhow::Context as _;
use holdpoint_core::{
    mask::{self, MaskSet, Masks},
    operation::Operation,
};

use crate::config::{Config, record::RecordedBodies};

pub use answer::{Answering, Received};
pub use names::unknown as unknown_names;
pub use outgoing::{Watch, refuse_returned, refuse_returned_in, returned};
pub use plan::Plan;
pub use shown::Shown;

/// What mints credentials is masked by this, towards the agent too.
const MINTED: &str = "minted";
/// What is stored, shown or sent to people is masked by these, whatever the configuration says.
const ALWAYS: [&str; 2] = ["secrets", MINTED];
/// What requests are searched for where policy asks what they contain, besides the configuration's own sets.
pub(crate) const SEARCHED: [&str; 2] = ["secrets", "pii"];

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
    bodies: RecordedBodies,
    credentials: injected::Credentials,
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
            bodies: config.record.bodies,
            credentials: injected::Credentials::default(),
            masks,
        })
    }
}

impl Masking {
    /// How this host's tokens of a value with this SHA-256 end, where sets have `mode = "hash"`.
    #[must_use]
    pub fn token_end(&self, sha256: &[u8; 32]) -> String {
        self.masks.token_end(sha256)
    }
}

/// Whether the answer is an object's content, which is passed or withheld and never altered.
fn is_media(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| operation.answers_media)
}
