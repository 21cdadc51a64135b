//! Holdpoint's pure decisions: what exactly is asked for, by whom, and whether it may happen.
//!
//! Nothing here does IO, reads a clock or the environment, or spawns: every function is a plain
//! function of its arguments, so that it can be tested by the thousand.
#![forbid(unsafe_code)]

pub mod approval;
pub mod batch;
pub mod catalog;
pub mod change;
pub mod checkpoint;
pub mod contains;
pub mod digest;
pub mod fields;
pub mod grant;
pub mod groups;
pub mod identity;
pub mod mask;
pub mod merkle;
pub mod operation;
pub mod policy;
pub mod recognise;
pub mod refusal;
mod resolvers;
pub mod sql;
pub mod target;
