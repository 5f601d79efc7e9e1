//! Numbers to fewer bits: gradient codecs.
//!
//! A codec is four parts, each replaceable: a **quantizer** maps the values of a scale group to a
//! few levels, **error feedback** remembers what that lost and adds it to the next gradient, a
//! **lossless coder** turns the levels into bytes, and a **frame** carries those with all that a
//! receiver needs.
//!
//! ```text
//! g ──▶ v = g + αh ──▶ levels l, scale ──▶ coder ──▶ frame      Encoder, one a member
//!            ▲               │
//!       residual h ◀── v − q(l)
//!
//! frames of all members, in rank order ──▶ Σ weight · q(l)      aggregate with a Decoder
//! ```
//!
//! ```
//! use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, aggregate};
//!
//! let spec: CodecSpec = "ecq:levels=4,bucket=512".parse()?;
//! let layout = Layout::new([784 * 10, 10]);
//! let gradient = vec![0.25; layout.elements()];
//!
//! let mut encoder = Encoder::new(&spec, &layout, 42);
//! let id = FrameId { step: 0, rank: 0, bucket: 0 };
//! let mut frame = Vec::new();
//! encoder.encode(id, 64, 0..layout.elements(), &gradient, &mut frame);
//!
//! let mut mean = vec![0.0; layout.elements()];
//! let mut decoder = Decoder::new(&spec, &layout, 42);
//! aggregate(&mut decoder, &[(id, &frame)], 0..layout.elements(), &mut mean)?;
//! assert_eq!(mean, gradient); // a constant group is represented exactly
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`CodecSpec::grammar`] names all codecs and what their settings mean. Models of several buckets are
//! encoded and decoded on all threads by [`Encoder::encode_all`] and [`Aggregator`].
//!
//! The bytes of a frame are a function of the run's seed, the frame's identity, the gradient and what the
//! encoder remembers: no CPU feature, thread or clock enters. [`Simd`] only says how fast. The sum is one
//! of IEEE single operations in rank order: `target += weight · q`, a multiplication and an addition,
//! never contracted.
//!
//! `FORMAT.md` beside this crate specifies the bytes.

mod aggregate;
mod cast;
mod coding;
mod decoder;
mod encoder;
mod error;
mod feedback;
mod frame;
mod layout;
mod lowrank;
mod norm;
mod quantizer;
mod rounding;
mod simd;
mod spec;
mod stats;
mod values;

pub use aggregate::{AggregateError, Aggregator, BucketFrames, aggregate};
pub use decoder::Decoder;
pub use encoder::{Encoder, ForeignMemory, Memory, Values};
pub use error::DecodeError;
pub use feedback::{Gains, LAMBDA_MAX};
pub use frame::FrameId;
pub use layout::{BUCKET_ELEMENTS_MAX, Layout};
pub use norm::Norm;
pub use simd::{Simd, SimdError};
pub use spec::{CodecSpec, SpecError};
pub use stats::FrameStats;
