//! Publishes measured values into the pipeline: the same storage, outbox and broker that simulated values go through.
//!
//! Requests are put into groups of batches as they end: whenever [`REQUESTS_PER_GROUP`] have ended or some seconds have passed, so
//! that rankings change while a run goes on. A group's batches are a function of the requests' lines and of the group's own line
//! in `published.jsonl`, which is written first; batch ids are a function of the content. So [`resume`] can publish the rest of a
//! run that was killed: batches that were sent before are counted once.
//!
//! | metric | values |
//! |---|---|
//! | `ttft` | one per answered request, s |
//! | `e2e_latency` | one per answered request, s |
//! | `tps` | one per answered request whose tokens are known, tokens/s |
//! | `tpot` | one per answered request of two tokens or more, s |
//! | `rps` | one per whole second from the first answer to the last request sent: requests completed in it |
//!
//! Requests of the warm-up are left out, and those of the ramp unless nothing else was answered. A run that has only its ramp
//! has no `rps`.

mod batch_group;
mod batch_publisher;
mod destination;
mod live_publisher;
mod metrics;
mod publication_log;
mod resume;
mod run_file;
#[cfg(test)]
mod tests;

pub use self::{
    batch_group::{REQUESTS_PER_GROUP, RequestFilter, RunOrigin},
    batch_publisher::PublishedTotals,
    destination::{BatchDestination, HttpDestination, OutboxDestination},
    live_publisher::{FinishedRequestQueue, LivePublisher, live_publisher},
    metrics::MeasuredMetric,
    publication_log::PUBLISHED_FILE,
    resume::resume,
    run_file::{RUN_FILE, RunFile},
};

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use shared_types::{Invalid, Metadata};

use crate::plan::Plan;

/// The metadata of a run's batches: enough to tell two runs apart; the whole plan is in `report.json`. The user's labels and
/// sampling parameters are left out where they are too long for a batch.
///
/// # Errors
/// A label cannot be stored.
pub fn run_metadata(plan: &Plan) -> Result<Metadata, Invalid> {
    let mut fields = Map::from_iter([
        ("api".to_owned(), json!(plan.api)),
        ("workload".to_owned(), json!(plan.workload)),
        ("load".to_owned(), json!(plan.load)),
        ("stream".to_owned(), json!(plan.stream)),
        ("seed".to_owned(), json!(plan.seed)),
    ]);
    let short = fields.clone();
    for (name, value) in [
        ("labels", json!(plan.metadata)),
        ("sampling", json!(plan.sampling)),
    ] {
        if value != Value::Object(Map::new()) {
            fields.insert(name.to_owned(), value);
        }
    }
    Metadata::new(fields).or_else(|_: Invalid| Metadata::new(short))
}

/// Why values were not published. The results directory has all of them, so they can be published later.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A name or a number cannot be part of a batch.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The database refused or is unavailable.
    #[error("the batches could not be stored")]
    Storage(#[from] storage::StorageError),
    /// A batch was refused.
    #[error("a batch of {metric} was refused: {reason}")]
    Refused {
        /// Its metric.
        metric: String,
        /// Why.
        reason: String,
    },
    /// The service cannot be reached.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: ureq::Error,
    },
    /// The service refused.
    #[error("{url} answered {status}: {detail}")]
    Answer {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The `detail` of its answer.
        detail: String,
    },
    /// The results directory has values of an earlier run that are not published.
    #[error(
        "{dir} holds a run that was not published to its end: `llm-bench publish {dir}` does so; or choose another directory",
        dir = directory.display()
    )]
    Unpublished {
        /// The results directory.
        directory: PathBuf,
    },
    /// The pipeline neither accepted nor refused the batches in time.
    #[error("the pipeline did not answer in time")]
    NoAnswer,
    /// A file of the results directory cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file of the results directory is not valid.
    #[error("{}: line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}
