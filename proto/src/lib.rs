//! The wire contract of ecq: protobuf messages, limits, conversions.
