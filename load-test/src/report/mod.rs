//! The report of a run.
//!
//! ```text
//! records ─► window ─► run part (mergeable) ─► report ─► report.json, text
//!        └──────────────────────────────────────────────► LLMPerf's files
//! ```
//!
//! Pure functions: callers write the files.

pub mod build;
mod client_error;
pub mod distribution;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod format;
pub mod llmperf;
pub(crate) mod metrics;
pub mod model;
pub mod part;
pub mod quantile_ranks;
pub mod request_metrics;
pub mod samples;
pub mod text;
pub mod tokens;
pub mod window;

pub use build::{ReportInputs, build};
pub use model::Report;
pub use part::RunPart;
