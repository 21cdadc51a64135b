//! The per-host certificate authority that sandboxes trust.
