//! The data plane: frames between members over long-lived gRPC streams.

mod chunk;
mod incoming;
mod meter;
mod outgoing;
mod snapshot;

pub(crate) use incoming::{Gate, Incoming};
pub(crate) use meter::Meter;
pub(crate) use outgoing::{Broadcast, Plan, Voice, link, stream, supply};
pub(crate) use snapshot::{Snapshot, Source, Wanted, fetch};

#[cfg(test)]
mod exchange_test;
