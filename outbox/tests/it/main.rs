//! The outbox against the embedded backends, with a publisher that can be told to fail.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod memory;
mod publishing;
mod telemetry;
