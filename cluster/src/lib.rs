//! The training protocol as sans-IO state machines, and its deterministic simulator.
