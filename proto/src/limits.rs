//! Limits of the wire, each with its reason.

use std::time::Duration;

/// Bytes of a frame or model in one message. Far below the 4 MiB that gRPC accepts by default, so
/// that size of the model never meets a message limit; large enough to make the cost of a message
/// small.
pub const CHUNK_BYTES: usize = 256 << 10;

/// HTTP/2 flow-control window of a stream and of a connection. The default of 64 KiB caps a stream
/// at one window a round trip: about 1 MB/s at 64 ms.
pub const WINDOW_BYTES: u32 = 16 << 20;

/// Largest HTTP/2 frame that either end accepts. The default of 16 KiB costs half the throughput.
pub const HTTP2_FRAME_BYTES: u32 = 1 << 20;

/// How often an idle connection is probed, and how long the answer may take.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a stream between nodes gives a sign of life when there is nothing to send.
pub const IDLE_INTERVAL: Duration = Duration::from_secs(2);

/// A stream between nodes that brings nothing for so long, or for a lease if that is longer, is broken.
pub const SILENCE_MIN: Duration = Duration::from_secs(10);

/// Largest model that a coordinator takes delivery of.
pub const MODEL_BYTES_MAX: u64 = 64 << 30;
