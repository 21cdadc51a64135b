//! Map keys and values shared by Holdpoint's BPF programs and their loader.
#![no_std]
