//! Loads, attaches and pins the BPF programs, and owns their maps. The one module that touches aya.
