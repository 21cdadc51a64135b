//! Verifies the OIDC token that opens a session.
