//! The client against servers that do what their scripts say, byte by byte.

mod answers;
mod connections;
mod failures;
mod server;
mod stamps;
mod tls;
