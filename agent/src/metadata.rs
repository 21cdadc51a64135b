//! The metadata server that sandboxes see.
