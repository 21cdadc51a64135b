//! What a case says that looking up its target finds.

use serde::Deserialize;

use crate::{
    fields::Json,
    operation::Operation,
    recognise::Malformed,
    target::{Attributes, Target},
};

/// One of the three ends of a look-up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum LookUp {
    /// The target's fields, as its `get` method shows them.
    Found(toml::Table),
    /// There is no such thing.
    Absent(bool),
    /// It could not be looked up, and why.
    Unknown(String),
}

impl LookUp {
    /// The operations of a case, with their target looked up.
    pub(super) fn look_up_all(
        &self,
        operations: Result<Vec<Operation>, Malformed>,
    ) -> Result<Result<Vec<Operation>, Malformed>, String> {
        let target = self.target()?;
        Ok(operations.map(|mut operations| {
            for operation in &mut operations {
                operation.target = target.clone();
            }
            operations
        }))
    }

    fn target(&self) -> Result<Target, String> {
        Ok(match self {
            Self::Found(fields) => {
                let text =
                    serde_json::to_vec(fields).map_err(|error| format!("`target`: {error}"))?;
                let json = Json::parse(&text).map_err(|error| format!("`target`: {error}"))?;
                Target::Known(Box::new(Attributes::of(&json)))
            }
            Self::Absent(true) => Target::Known(Box::new(Attributes::absent())),
            Self::Absent(false) => return Err("write what is `found` of the target".into()),
            Self::Unknown(why) => Target::Unknown(why.clone()),
        })
    }
}
