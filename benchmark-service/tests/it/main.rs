//! The benchmark service as its clients and operators see it: over HTTP, with a real database file and the
//! in-process broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod app;
mod batches;
mod events;
mod faulty;
mod http;
mod pipeline;
mod rankings;
mod registry;
mod slow_clients;
