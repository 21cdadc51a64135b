//! `holdpoint sessions`: what happened.
