//! A JSON body, flattened to what a policy can ask about.

use std::collections::{BTreeMap, BTreeSet};

/// Field paths and the values found there. Arrays add nothing to a path, so that
/// `{"bindings":[{"members":["allUsers"]}]}` has `allUsers` under `bindings.members`. Numbers and booleans are
/// text as JSON spells them; null is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub BTreeMap<String, BTreeSet<String>>);
