//! PostgreSQL: what agents say to databases, statement by statement.

pub mod frame;
pub mod masking;
