//! What every service needs around its own work: settings, logs, metrics, health checks and an orderly shutdown.

pub mod failpoints;
pub mod health;
pub mod lifecycle;
pub mod link_telemetry;
pub mod operations;
pub mod scraped;
pub mod settings;
pub mod telemetry;

pub use shared_types::Secret;
