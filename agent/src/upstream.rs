//! Connections to the real Google.
