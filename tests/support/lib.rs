//! What the end-to-end tests share: a stand-in Google, an OIDC issuer, a daemon under test.

pub mod canary;
pub mod ci;
pub mod configuration;
pub mod daemon;
pub mod files;
pub mod host;
pub mod interrupts;
pub mod issuer;
pub mod python;
pub mod reviewer;
pub mod sandbox;
pub mod stand_in;
pub mod world;
