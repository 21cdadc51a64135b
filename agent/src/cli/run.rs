//! `holdpoint run`: a command in a new session.
