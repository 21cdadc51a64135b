//! What a client is told when an operation does not happen.
