//! One connection of a sandboxed process: origin, session, detection, TLS, relay.
