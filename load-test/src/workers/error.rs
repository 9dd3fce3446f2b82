use std::{num::NonZeroU32, time::Duration};

use broker::ShareError;

use super::{
    TooManyWorkers,
    messages::{MessageError, WorkerName},
};

/// Why there was no run, or nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum CoordinateError {
    /// The plan is too small.
    #[error(transparent)]
    TooMany(#[from] TooManyWorkers),
    /// The broker is not there.
    #[error("the workers cannot be reached")]
    Broker(#[from] ShareError),
    /// Not all workers came.
    #[error(
        "{} of {expected} workers came within {} s ({}); expected {expected} of `llm-bench load-test --worker` with the same AMQP_URL",
        came.len(), within.as_secs(), names(came)
    )]
    TooFew {
        /// Those that came.
        came: Vec<WorkerName>,
        /// How many there have to be.
        expected: NonZeroU32,
        /// The timeout.
        within: Duration,
    },
    /// A worker's message cannot be used.
    #[error("a worker's message cannot be used")]
    Message(#[from] MessageError),
    /// A worker could not prepare.
    #[error("worker {} on {} cannot take part: {reason}", worker.name, worker.host)]
    Failed {
        /// Which.
        worker: WorkerName,
        /// Its words.
        reason: String,
    },
    /// A worker took a share and did not even begin with it.
    #[error("a worker cannot take part: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// Workers do not ask the same.
    #[error(
        "workers {} and {} prepared different prompts (tokenizers {} and {}): expected the same files and the same tokenizer on all \
         machines", workers[0], workers[1], tokenizers[0], tokenizers[1]
    )]
    Differ {
        /// Two that do not.
        workers: [String; 2],
        /// Their tokenizers.
        tokenizers: [String; 2],
    },
    /// The run was stopped before it began.
    #[error("the run was stopped before it began")]
    Stopped,
    /// Nothing came of the run.
    #[error("all workers were lost: {}", reasons.join("; "))]
    AllLost {
        /// Of each worker, why.
        reasons: Vec<String>,
    },
}

fn names(workers: &[WorkerName]) -> String {
    let names: Vec<_> = workers
        .iter()
        .map(|worker| format!("{} on {}", worker.name, worker.host))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
