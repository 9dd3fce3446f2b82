use std::time::Duration;

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use super::ClassCounts;

/// What is known of a run beside the records of its requests. Histograms are in nanoseconds.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// When it began, by the wall clock.
    pub started_at: DateTime<Utc>,
    /// When it began; offsets of arrivals count from here.
    pub started: MonotonicTime,
    /// When the ramp was over. The steady window is from here to [`Self::last_begun`].
    pub ramp_end: MonotonicTime,
    /// When the last request was handed to the client; `None` where there was none.
    pub last_begun: Option<MonotonicTime>,
    /// When the last request had ended.
    pub ended: MonotonicTime,
    /// Requests that were due and so have a class.
    pub scheduled: u64,
    /// How they ended; the sum is [`Self::scheduled`].
    pub classes: ClassCounts,
    /// Gaps between content chunks that ended during the ramp.
    pub icl_ramp: Histogram<u64>,
    /// Gaps between content chunks that ended after it.
    pub icl_steady: Histogram<u64>,
    /// How late the threads' loops came to what was ready: each thread has a timer due every 5 ms. From the end of the ramp to the
    /// last request that was sent, unless that was too short for a percentile, or the loops were later while answers still came.
    pub loop_lag: Histogram<u64>,
    /// By how much the moments of first contents may be too late ([`llm_client::Exchange::first_content_uncertainty`]), of requests that
    /// were due after the ramp, or of all where there were none.
    pub stamp_uncertainty: Histogram<u64>,
    /// Sent − intended of an open loop; for a request that had to connect first, begun − intended, as connecting is the
    /// network's and the server's time. Empty for a closed loop, whose requests are due when they are begun.
    pub late_sends: Histogram<u64>,
    /// What a closed loop held; `None` for an open loop, or where no request began well after the ramp.
    pub streams: Option<HeldStreams>,
    /// Rests of a closed loop's streams after failures and `Retry-After`.
    pub waits: Waits,
    /// CPU time over time of each worker thread, while requests were being sent.
    pub cpu_shares: Vec<f64>,
    /// Whether the run was cancelled.
    pub interrupted: bool,
}

/// The streams that a closed loop held on the average from the end of the ramp to the last request that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldStreams {
    /// As the plan asks.
    pub asked: u32,
    /// With a request in flight.
    pub in_flight: f64,
    /// Resting, because the server had failed or refused ([`Waits`]).
    pub waiting: f64,
}

/// How often and how long streams rested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Rests.
    pub count: u64,
    /// Their sum over all streams.
    pub total: Duration,
}
