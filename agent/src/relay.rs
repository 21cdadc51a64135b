//! HTTP on both sides of an admitted operation.
