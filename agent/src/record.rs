//! The append-only account of everything that happened.
