//! The command line.

pub mod approvals;
pub mod audit;
pub mod doctor;
pub mod grants;
pub mod login;
pub mod mask;
pub mod policy;
pub mod recognise;
pub mod report;
pub mod review;
pub mod run;
pub mod session;
pub mod sessions;
pub mod status;
