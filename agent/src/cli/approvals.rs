//! `holdpoint approvals`: list, show, approve and deny held operations.
