//! The wire contract: the protobuf messages of `ecq/v1`, the limits that both ends keep to, and
//! the conversions between messages and the domain types of [`ecq_cluster`].
//!
//! Every conversion from the wire checks what it reads: a message that a correct peer cannot have
//! sent becomes a [`WireError`], never a panic.

mod convert;
pub mod limits;

pub use convert::{CoordinatorWords, NodeWords, WireError};

/// Version of the program. A coordinator takes only nodes of its own version, since the replicas of
/// two versions need not agree to the bit.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The generated messages, clients and servers of package `ecq.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("ecq.v1");
}
