//! What the end-to-end tests share: a stand-in Google, an OIDC issuer, a daemon under test.

pub mod issuer;
pub mod stand_in;
