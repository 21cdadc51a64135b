//! Holdpoint: puts hold points on what AI coding agents do to Google Cloud from a CI runner.
//!
//! The way through the code is two straight functions: [`connection::serve`], once per connection, and
//! [`gate::Gate::admit`], once per operation. `ARCHITECTURE.md` tells the rest.

pub mod adoption;
pub mod allowance;
pub mod alone;
pub mod approvals;
pub mod audit;
pub mod binding;
pub mod body;
pub mod cli;
pub mod config;
pub mod connection;
pub mod containers;
pub mod control;
pub mod credential;
pub mod cut;
pub mod daemon;
pub mod detach;
pub mod dns;
pub mod doctor;
pub mod export;
pub mod gate;
pub mod guard;
pub mod head;
pub mod interim;
pub mod kernel;
pub mod launch;
pub mod lookup;
pub mod masking;
pub mod metadata;
pub mod metrics;
mod mountinfo;
pub mod notifications;
pub mod notify;
pub mod oidc;
pub mod opening;
pub mod pace;
pub mod policy_dir;
pub mod postgres;
pub mod record;
pub mod refusals;
pub mod relay;
pub mod replay;
pub mod reply;
pub mod retention;
pub mod service;
pub mod session;
pub mod shipping;
pub mod slice;
pub mod sqladmin;
pub mod tls;
pub mod uploads;
pub mod upstream;
