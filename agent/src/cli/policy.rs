//! `holdpoint policy`: check and test policies.
