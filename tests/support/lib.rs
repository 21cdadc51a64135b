//! What the end-to-end tests share: a stand-in Google, an OIDC issuer, a daemon under test.

pub mod bpf;
pub mod canary;
pub mod ci;
pub mod client;
pub mod cloud_sql;
pub mod configuration;
pub mod daemon;
pub mod engine;
pub mod files;
pub mod footprint;
pub mod host;
pub mod interrupts;
pub mod issuer;
pub mod mock_server;
pub mod network;
pub mod node;
pub mod postgres;
pub mod python;
pub mod restless;
pub mod reviewer;
pub mod sandbox;
pub mod sniffer;
pub mod stand_in;
pub mod tally;
pub mod terminal;
pub mod world;
