//! SQL, from its text to the operations it asks for.

pub mod bigquery;
