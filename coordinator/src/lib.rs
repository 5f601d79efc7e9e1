//! Membership service, run metrics and the run directory.
