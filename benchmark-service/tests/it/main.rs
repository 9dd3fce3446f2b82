//! The benchmark service as its clients and operators see it: over HTTP, with a real database file and the
//! in-process broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app;
mod batches;
mod degraded;
mod events;
mod faulty;
mod hostile_bodies;
mod housekeeping;
mod http;
mod keys;
mod limits;
mod pipeline;
mod rankings;
mod registry;
mod scopes;
mod slow_clients;
