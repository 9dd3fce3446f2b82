//! Measured values on their way into the pipeline: the same storage, outbox and broker as the simulation's.
//!
//! Requests are cut into batches as they end: whenever [`VALUES_PER_CUT`] have ended, or some seconds have passed,
//! so that rankings move while a run goes on. A cut's batches follow from the requests' lines and from the cut's own line in
//! `published.jsonl`, which is written first; their ids follow from their content. So a run that was killed half-way can be
//! published to its end by [`resume`]: what was sent already counts once.
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

mod cuts;
mod feed;
mod log;
mod metrics;
mod publication;
mod resume;
mod run_file;
mod sink;
#[cfg(test)]
mod tests;

pub use self::{
    cuts::{Origin, VALUES_PER_CUT},
    feed::{Feed, FeedEnd, FeedSettings, feed},
    log::PUBLISHED_FILE,
    metrics::MeasuredMetric,
    publication::Published,
    resume::resume,
    run_file::{RUN_FILE, RunFile},
    sink::{HttpSink, OutboxSink, Sink},
};

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use shared_types::{Invalid, Metadata};

use crate::plan::Plan;

/// What the batches of a run say about its workload: enough to tell two runs apart; the whole plan is in `report.json`.
/// Where the user's labels and sampling parameters are too long for a batch they are left out.
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

/// Why values did not get into the pipeline. What was measured is in the results directory, and can be published again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A name or a number cannot be part of a batch.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The database refused or is away.
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
        /// What it said.
        detail: String,
    },
    /// An earlier run's values wait in the results directory.
    #[error(
        "{dir} holds a run that was not published to its end: `llm-bench publish {dir}` does so; or choose another directory",
        dir = directory.display()
    )]
    Unpublished {
        /// The results directory.
        directory: PathBuf,
    },
    /// The pipeline neither took nor refused the batches in time.
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
    /// A line of a file of the results directory is not what was written.
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
