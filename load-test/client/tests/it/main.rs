//! The client against servers that do what their scripts say, byte by byte.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod connections;
mod failures;
mod server;
mod stamps;
mod tls;
