//! Held operations and the people who answer them.
