//! Runs that are shared out over a real RabbitMQ, against the mock server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod losses;
mod refusals;
mod runs;
