use std::time::Duration;

use hdrhistogram::Histogram;

/// One hour; what is longer is recorded as that.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Durations in nanoseconds: microseconds to an hour, with three significant digits, in about 200 KiB.
pub(crate) fn durations() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants that it takes")]
    Histogram::new_with_bounds(1_000, LONGEST_NS, 3)
        .expect("1 µs to an hour with 3 digits is a valid histogram")
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(LONGEST_NS)
}

/// Adds `more`, which came from [`durations`] too.
pub(crate) fn merge(into: &mut Histogram<u64>, more: &Histogram<u64>) {
    let added = into.add(more);
    debug_assert!(added.is_ok(), "all have the same bounds");
}

/// The 99th percentile of nanoseconds, in seconds; `None` of nothing.
pub(crate) fn p99_s(nanos: &Histogram<u64>) -> Option<f64> {
    (!nanos.is_empty()).then(|| seconds_at(nanos, 0.99))
}

/// A quantile of nanoseconds, in seconds.
pub(crate) fn seconds_at(nanos: &Histogram<u64>, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an hour in ns is less than 2^53")]
    let seconds = nanos.value_at_quantile(quantile) as f64 / 1e9;
    seconds
}
