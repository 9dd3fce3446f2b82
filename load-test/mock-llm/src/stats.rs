use hdrhistogram::Histogram;
use precise_time::MonotonicTime;
use serde::Serialize;

/// The longest lateness that is told apart, in ns: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// What a server has done since its start. Answers that misbehave count as requests, but their tokens are not timed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were read in full, whatever they asked for.
    pub requests: u64,
    /// Answers that are being generated, those that wait for a slot included.
    pub in_flight: u64,
    /// Of these, those that wait for a slot.
    pub queued: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Tokens that were written.
    pub tokens: u64,
    /// Tokens that were held back by a stall; their lateness counts from its end.
    pub stalled_tokens: u64,
    /// Answers that the client did not wait for.
    pub disconnects: u64,
    /// Writes that had to wait because the client did not read.
    pub blocked_writes: u64,
    /// Connections that could not be accepted, as when there are no descriptors left.
    pub accept_errors: u64,
    /// How late the first tokens of streams were.
    pub first_token_lateness: Lateness,
    /// How late all tokens were; those of an answer that is no stream are due together with the last.
    pub token_lateness: Lateness,
}

/// Written − due, in seconds (3 significant digits); null where there is nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lateness {
    /// How many were timed.
    pub count: u64,
    /// The median.
    pub p50_s: Option<f64>,
    /// The 90th percentile.
    pub p90_s: Option<f64>,
    /// The 99th percentile.
    pub p99_s: Option<f64>,
    /// The 99.9th percentile.
    pub p999_s: Option<f64>,
    /// The largest.
    pub max_s: Option<f64>,
}

/// One core's share of the [`Stats`].
pub(crate) struct Counters {
    pub requests: u64,
    pub in_flight: u64,
    pub queued: u64,
    pub connections: u64,
    pub tokens: u64,
    pub stalled_tokens: u64,
    pub disconnects: u64,
    pub blocked_writes: u64,
    pub accept_errors: u64,
    first_token: Histogram<u64>,
    every_token: Histogram<u64>,
}

/// Tokens that one event carries, and when they were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub due: MonotonicTime,
    pub tokens: u32,
    pub is_first: bool,
    pub is_stalled: bool,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            in_flight: 0,
            queued: 0,
            connections: 0,
            tokens: 0,
            stalled_tokens: 0,
            disconnects: 0,
            blocked_writes: 0,
            accept_errors: 0,
            first_token: histogram(),
            every_token: histogram(),
        }
    }

    pub(crate) fn written(&mut self, mark: Mark, at: MonotonicTime) {
        let late = u64::try_from(at.saturating_since(mark.due).as_nanos()).unwrap_or(LONGEST);
        let tokens = u64::from(mark.tokens);
        self.tokens += tokens;
        if mark.is_stalled {
            self.stalled_tokens += tokens;
        }
        self.every_token.saturating_record_n(late, tokens);
        if mark.is_first {
            self.first_token.saturating_record(late);
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        self.connections += other.connections;
        self.tokens += other.tokens;
        self.stalled_tokens += other.stalled_tokens;
        self.disconnects += other.disconnects;
        self.blocked_writes += other.blocked_writes;
        self.accept_errors += other.accept_errors;
        for (mine, others) in [
            (&mut self.first_token, &other.first_token),
            (&mut self.every_token, &other.every_token),
        ] {
            let added = mine.add(others);
            debug_assert!(added.is_ok(), "all histograms have the same bounds");
        }
    }

    /// All cores' counters as one.
    pub(crate) fn sum<'a>(cores: impl Iterator<Item = std::sync::MutexGuard<'a, Self>>) -> Stats {
        let mut all = Self::new();
        for counters in cores {
            all.add(&counters);
        }
        Stats {
            requests: all.requests,
            in_flight: all.in_flight,
            queued: all.queued,
            connections: all.connections,
            tokens: all.tokens,
            stalled_tokens: all.stalled_tokens,
            disconnects: all.disconnects,
            blocked_writes: all.blocked_writes,
            accept_errors: all.accept_errors,
            first_token_lateness: Lateness::of(&all.first_token),
            token_lateness: Lateness::of(&all.every_token),
        }
    }
}

impl Lateness {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "an hour in ns is less than 2^53")]
        let seconds = |nanos: u64| Some(nanos as f64 / 1e9);
        let at = |quantile| seconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_s: at(0.5),
            p90_s: at(0.9),
            p99_s: at(0.99),
            p999_s: at(0.999),
            max_s: seconds(histogram.max()),
        }
    }
}

fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants that it takes")]
    Histogram::new_with_bounds(1, LONGEST, 3).expect("1 to an hour with 3 digits is a valid histogram")
}
