//! `holdpoint doctor`: looks at the host, and attacks its own sandbox.

pub mod attack;
pub mod checks;
mod person;
mod sandbox;
mod short;
mod stage;
pub mod verdict;

pub use person::Person;
pub use sandbox::attack_all;
pub use short::prove;
