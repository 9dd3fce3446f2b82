//! Experiment tracking: a run's parameters and figures in [MLflow](https://mlflow.org).
//!
//! ```text
//! report ─► TrackedRun ─► TrackingServer::log ─► experiment, run, tags, parameters, metrics, report.json and report.html
//! ```
//!
//! MLflow's experiment is what TrueFoundry's fork of LLMPerf calls a repository (`--ml-repo`). It is created where none has the
//! name.
//!
//! A run is logged when it is over, so logging cannot disturb it. A failure is returned to the caller; the run's own files do not
//! depend on it.

mod error;
mod log_batches;
mod mlflow_api;
mod server;
#[cfg(test)]
mod tests;
mod tracked_run;
mod unique_names;

pub use self::{
    error::TrackingError,
    server::{Artifact, ArtifactUpload, LoggedRun, TrackingServer},
    tracked_run::TrackedRun,
};
