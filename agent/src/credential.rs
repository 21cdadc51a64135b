//! The credential Holdpoint uses towards Google, which no agent ever sees.
