//! What the names in a statement mean, and so what it really does.
//!
//! The grammar shows `SELECT total FROM report`; what it cannot show is that `report` is a view that calls a function which
//! deletes. Only the server knows. A read stays a read where every relation, function, operator, type and cast that it
//! reaches is harmless: PostgreSQL's own, by a reviewed list, or of an extension on a list. Everything else is opaque.
//!
//! Names without a schema count as *every* object of that name, so that neither `search_path` nor `SET ROLE` matter.
//!
//! What is not followed, because writes are judged as writes: triggers, defaults and foreign keys of tables written to.

mod judge;
mod known;
mod local;
pub mod observed;
mod resolve;
mod stock;
#[cfg(test)]
mod tests;

pub use known::{Facts, MOST_FOUND};
pub use local::LocalNames;
pub use resolve::resolve;
pub(super) use stock::called;
