//! The vocabulary of llm-bench: what an LLM, a metric and a batch of measured values are, how a batch looks as
//! a message, and the clock that everything takes its time from.
//!
//! Nothing here does I/O. Every type that comes from outside has a fallible constructor; a value that exists is
//! valid.

mod batch;
mod checksum;
mod clock;
mod error_chain;
mod ids;
mod invalid;
mod llm;
pub mod message;
mod metadata;
mod metric;
mod provenance;
mod registry;
mod secret;
mod values;

pub use batch::{BatchContent, MetricBatch};
pub use checksum::{Checksum, InvalidChecksum};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error_chain::ErrorChain;
pub use ids::{BatchId, LlmId, MetricId};
pub use invalid::Invalid;
pub use llm::{Creator, Llm, LlmName, NewLlm};
pub use metadata::Metadata;
pub use metric::{Bounds, Direction, Metric, MetricTitle, NewMetric, Unit};
pub use provenance::{Provenance, RunId, Source};
pub use registry::RegistrySeed;
pub use secret::Secret;
pub use values::{MAX_VALUES, Values};
