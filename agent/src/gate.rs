//! Every reason an operation can be stopped.
