//! The backend against real RabbitMQ servers.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod conflicts;
mod conformance;
mod faults;
mod messages;
mod prefetch_bytes;
mod routing;
mod servers;
mod sizes;
mod unavailable_queues;
mod waiting;
mod wire;
