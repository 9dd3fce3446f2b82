use std::time::Duration;

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use super::ClassCounts;

/// What a run measured beside the records of its requests. Histograms are in nanoseconds.
#[derive(Debug, Clone)]
pub struct RunMeasurements {
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
    /// Requests that were due; each has a class.
    pub scheduled: u64,
    /// How they ended; the sum is [`Self::scheduled`].
    pub classes: ClassCounts,
    /// Gaps between content chunks that ended during the ramp.
    pub icl_ramp: Histogram<u64>,
    /// Gaps between content chunks that ended after the ramp.
    pub icl_steady: Histogram<u64>,
    /// How late the threads' event loops came to what was ready, measured by a timer in each thread that is due every 5 ms. From
    /// the end of the ramp to the last request that was sent. The ramp is included where that time is too short for a
    /// percentile, and the drain where its lag was larger.
    pub loop_lag: Histogram<u64>,
    /// How much too late the timestamps of first contents may be ([`llm_client::Exchange::first_content_uncertainty`]): of
    /// requests that were due after the ramp, or of all requests where there were none.
    pub stamp_uncertainty: Histogram<u64>,
    /// Sent − intended of an open loop. For a request that had to connect first it is begun − intended, because connecting is
    /// the network's and the server's time. Empty for a closed loop, whose requests are due when they are begun.
    pub late_sends: Histogram<u64>,
    /// The streams that a closed loop held; `None` for an open loop, or where no request began well after the ramp.
    pub streams: Option<HeldStreams>,
    /// Pauses of a closed loop's streams after failures and `Retry-After`.
    pub backoff_waits: BackoffWaits,
    /// CPU time over elapsed time of each worker thread, while requests were being sent.
    pub cpu_shares: Vec<f64>,
    /// Whether the run was cancelled.
    pub interrupted: bool,
}

/// The streams that a closed loop held on average, from the end of the ramp to the last request that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldStreams {
    /// As many as the plan asks for.
    pub asked: u32,
    /// Streams with a request in flight.
    pub in_flight: f64,
    /// Streams that pause because the server had failed or refused ([`BackoffWaits`]).
    pub waiting: f64,
}

/// How often and how long streams paused after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackoffWaits {
    /// Number of pauses.
    pub count: u64,
    /// Sum of their lengths over all streams.
    pub total: Duration,
}
