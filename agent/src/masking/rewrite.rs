//! One message's content, masked as it goes by.

use std::sync::Arc;

use holdpoint_core::mask::{Form, MaskSet, Masker};

use super::{
    Unreadable,
    grpc::{self, Messages},
};

/// Masks the content of one message.
pub enum Rewriter {
    /// Content of one form.
    Content(Box<Masker>),
    /// gRPC messages.
    Messages(Messages),
}

impl Rewriter {
    /// By what the message says of its content; gRPC messages have to be decompressed before.
    #[must_use]
    pub fn new(set: Arc<MaskSet>, content_type: Option<&str>) -> Self {
        match content_type {
            Some(grpc) if grpc::is_grpc(content_type) => Self::Messages(Messages::new(set, grpc)),
            _ => Self::Content(Box::new(Masker::new(set, Form::of(content_type)))),
        }
    }

    /// Appends what can be told by now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::Content(masker) => Ok(masker.push(input, out)?),
            Self::Messages(messages) => messages.push(input, out),
        }
    }

    /// The end of the content.
    ///
    /// # Errors
    /// When it ends in the midst of something.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::Content(masker) => {
                masker.finish(out)?;
                Ok(())
            }
            Self::Messages(messages) => messages.finish(),
        }
    }
}
