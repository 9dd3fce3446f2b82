use hdrhistogram::Histogram;
use precise_time::MonotonicTime;
use serde::Serialize;

/// The longest lateness that is recorded, in ns: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// What a server has done since its start. Misbehaving responses count as requests, but their tokens are not timed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were read completely.
    pub requests: u64,
    /// Responses that are being generated or wait for a slot.
    pub in_flight: u64,
    /// Responses that wait for a slot.
    pub queued: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Tokens that were written.
    pub tokens: u64,
    /// Tokens that a stall delayed; their lateness counts from its end.
    pub stalled_tokens: u64,
    /// Responses whose client closed the connection before their end.
    pub disconnects: u64,
    /// Writes that had to wait because the client did not read.
    pub blocked_writes: u64,
    /// Connections that could not be accepted, for example because no descriptors were left.
    pub accept_errors: u64,
    /// The lateness of the first tokens of streams.
    pub first_token_lateness: Lateness,
    /// The lateness of all tokens. In a response that is not streamed, all tokens are due together with the last.
    pub token_lateness: Lateness,
}

/// Time of writing less time due, in seconds (3 significant digits); null where nothing was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lateness {
    /// The number of tokens.
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

/// The [`Stats`] of one core, with histograms in place of their quantiles.
pub(crate) struct Counters {
    pub stats: Stats,
    first_token: Histogram<u64>,
    every_token: Histogram<u64>,
}

/// The tokens of one event, and when they were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenTokens {
    pub due: MonotonicTime,
    pub tokens: u32,
    pub is_first: bool,
    pub is_stalled: bool,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            stats: Stats::default(),
            first_token: histogram(),
            every_token: histogram(),
        }
    }

    pub(crate) fn add_tokens(&mut self, written: WrittenTokens, at: MonotonicTime) {
        let late = u64::try_from(at.saturating_since(written.due).as_nanos()).unwrap_or(LONGEST);
        let tokens = u64::from(written.tokens);
        self.stats.tokens += tokens;
        if written.is_stalled {
            self.stats.stalled_tokens += tokens;
        }
        self.every_token.saturating_record_n(late, tokens);
        if written.is_first {
            self.first_token.saturating_record(late);
        }
    }

    fn add(&mut self, other: &Self) {
        let (sum, stats) = (&mut self.stats, &other.stats);
        sum.requests += stats.requests;
        sum.in_flight += stats.in_flight;
        sum.queued += stats.queued;
        sum.connections += stats.connections;
        sum.tokens += stats.tokens;
        sum.stalled_tokens += stats.stalled_tokens;
        sum.disconnects += stats.disconnects;
        sum.blocked_writes += stats.blocked_writes;
        sum.accept_errors += stats.accept_errors;
        for (sum, added) in [
            (&mut self.first_token, &other.first_token),
            (&mut self.every_token, &other.every_token),
        ] {
            let result = sum.add(added);
            debug_assert!(result.is_ok(), "all histograms have the same bounds");
        }
    }

    /// The sum over all cores.
    pub(crate) fn sum<'a>(cores: impl Iterator<Item = std::sync::MutexGuard<'a, Self>>) -> Stats {
        let mut all = Self::new();
        for counters in cores {
            all.add(&counters);
        }
        Stats {
            first_token_lateness: Lateness::of(&all.first_token),
            token_lateness: Lateness::of(&all.every_token),
            ..all.stats
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
