//! The simulation service: a schedule, a generator of values, and the outbox they leave by.
//!
//! At start and then every interval it takes a tick number, draws the values of every (LLM, metric) of the registry
//! for that tick ([`generator`]), and submits them as batches to the [`outbox`].

pub mod generator;
mod schedule;
mod service;
mod settings;
mod telemetry;
mod tick;

pub use service::{Dependencies, Service, ServiceError, prepare};
pub use settings::SimulationSettings;
pub use telemetry::SimulationTelemetry;
pub use tick::{Simulation, TickError, TickReport};
