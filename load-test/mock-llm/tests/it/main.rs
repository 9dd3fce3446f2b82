//! The server over raw sockets. Responses are compared byte by byte, and the server's timestamps with its deadlines.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod misbehaviours;
mod server;
mod streams;
