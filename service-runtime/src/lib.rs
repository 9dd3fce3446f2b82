//! What every service does around its own work: settings in, logs and metrics out, health answered, and an orderly
//! end.

pub mod failpoints;
pub mod health;
pub mod lifecycle;
pub mod link_metrics;
pub mod operations;
pub mod scraped;
pub mod settings;
pub mod telemetry;

pub use shared_types::Secret;
