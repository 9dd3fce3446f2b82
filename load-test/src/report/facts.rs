//! What the engine knows about a run beside its requests' records.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use precise_time::MonotonicTime;

/// What is known of a run beside the records of its requests. Histograms are in nanoseconds.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// When it began, by the wall clock.
    pub started_at: DateTime<Utc>,
    /// When it began.
    pub started: MonotonicTime,
    /// When the ramp was over.
    pub ramp_end: MonotonicTime,
    /// When the last request was handed to the client; `None` where there was none.
    pub last_begun: Option<MonotonicTime>,
    /// When the last request had ended.
    pub ended: MonotonicTime,
    /// Requests that were due, the warm-up's included.
    pub scheduled: u64,
    /// Gaps between content chunks that ended during the ramp.
    pub icl_ramp: Histogram<u64>,
    /// Gaps between content chunks that ended after it.
    pub icl_steady: Histogram<u64>,
    /// Rests of a closed loop's streams after failures and `Retry-After`.
    pub waits: Waits,
    /// CPU time over time of each worker thread, while requests were being sent.
    pub cpu_shares: Vec<f64>,
    /// Whether the run was cancelled.
    pub interrupted: bool,
}

/// How often and how long streams rested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Rests.
    pub count: u64,
    /// Their sum over all streams.
    pub total: Duration,
}
