//! `multipart/mixed` batches of HTTP requests
//! (<https://cloud.google.com/storage/docs/batch>, <https://cloud.google.com/compute/docs/api/how-tos/batch>).

use crate::operation::Operation;

/// A batch that was taken apart without doubt.
#[derive(Debug)]
pub struct Batch {
    /// The parts, in order.
    pub operations: Vec<Operation>,
    /// The body made anew from the parts as they were understood, without any credential a part carried: what goes
    /// upstream is what was judged. Goes with the `Content-Type` of the original request.
    pub body: Vec<u8>,
}
