//! The resolver that sandboxes see.
