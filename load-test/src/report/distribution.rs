//! The figures of one distribution, each only where the sample supports it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::quantile_ranks::ranks_around_quantile;

/// A 99th percentile needs at least this many values: ten of them lie above it.
pub const FEWEST_FOR_P99: u64 = 1_000;

/// A 99.9th percentile needs at least this many values.
pub const FEWEST_FOR_P999: u64 = 10_000;

/// The figures of one distribution, in the unit that the field's name says. `None` where there are too few values.
///
/// Percentiles are nearest-rank values of a histogram with three significant digits, the middle of their bucket (error at most
/// 0.05 %). The 95 % confidence intervals of percentiles are order statistics ([`ranks_around_quantile`]), which assume independent
/// values.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of values.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (n − 1).
    pub stddev: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile, from 1 000 values on.
    pub p99: Option<f64>,
    /// 99.9th percentile, from 10 000 values on.
    pub p999: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// 95 % confidence interval of the median.
    pub ci95_p50: Option<(f64, f64)>,
    /// 95 % confidence interval of the 99th percentile, from 1 000 values on.
    pub ci95_p99: Option<(f64, f64)>,
}

impl Distribution {
    /// The figures of a histogram alone; mean and standard deviation have its precision (0.05 %).
    ///
    /// There are no confidence intervals: such histograms hold the gaps of many streams, and gaps of one stream are not independent.
    #[must_use]
    pub fn of_pooled(histogram: &Histogram<u64>, ticks_per_unit: f64) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let unit = |ticks: f64| ticks / ticks_per_unit;
        let n = histogram.len();
        Self {
            n,
            mean: Some(unit(histogram.mean())),
            stddev: (n > 1).then(|| unit(histogram.stdev() * (n as f64 / (n - 1) as f64).sqrt())),
            min: Some(unit(histogram.median_equivalent(histogram.min()) as f64)),
            max: Some(unit(histogram.median_equivalent(histogram.max()) as f64)),
            ..Self::percentiles(histogram, &|ticks| unit(ticks as f64))
        }
    }

    /// Count and percentiles; `to_unit` converts the histogram's ticks into the unit.
    pub(super) fn percentiles(histogram: &Histogram<u64>, to_unit: &dyn Fn(u64) -> f64) -> Self {
        let n = histogram.len();
        let value = |rank: u64| to_unit(value_at_rank(histogram, rank));
        let percentile =
            |per_mille: u64, fewest: u64| (n >= fewest).then(|| value(nearest_rank(n, per_mille)));
        let interval = |p: f64, fewest: u64| {
            let (lower, upper) = (n >= fewest).then(|| ranks_around_quantile(n, p, 0.95))??;
            Some((value(lower), value(upper)))
        };
        Self {
            n,
            p50: percentile(500, 1),
            p90: percentile(900, 1),
            p95: percentile(950, 1),
            p99: percentile(990, FEWEST_FOR_P99),
            p999: percentile(999, FEWEST_FOR_P999),
            ci95_p50: interval(0.5, 1),
            ci95_p99: interval(0.99, FEWEST_FOR_P99),
            ..Self::default()
        }
    }
}

/// `⌈n·q⌉` in integers, because a product of doubles may be slightly above the exact integer.
fn nearest_rank(n: u64, per_mille: u64) -> u64 {
    let rank = (u128::from(n) * u128::from(per_mille)).div_ceil(1000);
    u64::try_from(rank).unwrap_or(n).max(1)
}

/// The value of the given rank, from 1 to the number of values.
fn value_at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut seen = 0;
    let reached = histogram.iter_recorded().find(|bucket| {
        seen += bucket.count_since_last_iteration();
        seen >= rank
    });
    histogram.median_equivalent(reached.map_or(histogram.max(), |bucket| bucket.value_iterated_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_smallest_that_cover_the_share() {
        assert_eq!((nearest_rank(1, 500), nearest_rank(10, 900)), (1, 9));
        assert_eq!((nearest_rank(1000, 990), nearest_rank(1001, 990)), (990, 991));
        assert_eq!(nearest_rank(u64::MAX, 999), 18_428_297_329_635_842_064);
    }

    #[test]
    fn an_empty_histogram_has_no_figures() {
        let empty = Histogram::new(3).unwrap();
        assert_eq!(Distribution::of_pooled(&empty, 1e9), Distribution::default());
    }

    #[test]
    fn pooled_values_have_figures_and_no_intervals() {
        let mut histogram = Histogram::new(3).unwrap();
        for millis in 1..=1000_u64 {
            histogram.record(millis * 1_000_000).unwrap();
        }
        let figures = Distribution::of_pooled(&histogram, 1e9);
        for (found, expected) in [
            (figures.mean, 0.5005),
            (figures.stddev, 0.288_819_436),
            (figures.p50, 0.5),
            (figures.p99, 0.99),
            (figures.max, 1.0),
        ] {
            assert!(
                (found.unwrap() / expected - 1.0).abs() < 1e-3,
                "{found:?} {expected}"
            );
        }
        assert_eq!((figures.n, figures.p999), (1000, None));
    }
}
