//! The life of one held operation: a pure state machine.
