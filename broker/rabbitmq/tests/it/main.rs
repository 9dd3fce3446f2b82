//! The backend on real brokers.

mod conformance;
mod servers;
