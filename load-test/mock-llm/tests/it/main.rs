//! The server over raw sockets: what arrives is compared byte by byte, and its own stamps with its own deadlines.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod misbehaviours;
mod server;
mod streams;
