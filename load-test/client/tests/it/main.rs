//! The client with servers that follow scripts, byte by byte.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod connections;
mod failures;
mod responses;
mod server;
mod timestamps;
mod tls;
