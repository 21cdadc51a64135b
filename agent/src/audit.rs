//! Proof that nobody changed the record: checkpoints that the daemon signs, and what an auditor does with them and the public key alone.
//!
//! An event's link in the chain is its leaf hash in a Merkle tree ([`holdpoint_core::merkle`]) over all events. [`keeper`] signs what the
//! tree is, every so often ([`holdpoint_core::checkpoint`]), and keeps that, along with the links, apart from the record ([`ledger`]).
//! [`check`] follows a record, line by line, and says which event is the first that is not as it was.

pub mod bodies;
pub mod bundle;
pub mod check;
pub mod evidence;
pub mod keeper;
pub mod keys;
pub mod ledger;
pub mod lines;
mod suspects;
pub mod webhook;

#[cfg(test)]
mod tests;
