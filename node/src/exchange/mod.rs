//! The data plane: frames between members over long-lived gRPC streams.

mod chunk;
mod incoming;
mod meter;
mod outgoing;

pub(crate) use incoming::{Gate, Incoming};
pub(crate) use meter::Meter;
pub(crate) use outgoing::{Broadcast, Plan, link};

#[cfg(test)]
mod exchange_test;
