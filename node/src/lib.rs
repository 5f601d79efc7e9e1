//! The worker: step loop, exchange streams, telemetry.
