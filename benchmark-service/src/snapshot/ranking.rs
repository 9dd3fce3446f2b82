use chrono::{DateTime, Utc};
use shared_types::Direction;
use statistics::{RunningStatistics, distributions::Z_975};

use super::Statistic;

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// An estimate, and the 95 % confidence interval around it where one can be given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
}

/// The statistics of one (LLM, metric, source) in one window that a ranking shows, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) n: u64,
    pub(crate) mean: Estimate,
    pub(crate) stddev: Option<f64>,
    pub(crate) p50: Estimate,
    pub(crate) p90: Estimate,
    pub(crate) p95: Estimate,
    pub(crate) p99: Estimate,
    pub(crate) updated_at: DateTime<Utc>,
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(statistics: &RunningStatistics, updated_at: DateTime<Utc>) -> Option<Self> {
        Some(Self {
            n: statistics.count(),
            mean: Estimate {
                value: statistics.mean()?,
                interval: statistics.ci95().map(|(low, high)| Interval { low, high }),
            },
            stddev: statistics.stddev(),
            p50: percentile(statistics, 0.5)?,
            p90: percentile(statistics, 0.9)?,
            p95: percentile(statistics, 0.95)?,
            p99: percentile(statistics, 0.99)?,
            updated_at,
        })
    }

    pub(crate) fn estimate(&self, statistic: Statistic) -> Estimate {
        match statistic {
            Statistic::Mean => self.mean,
            Statistic::P50 => self.p50,
            Statistic::P90 => self.p90,
            Statistic::P95 => self.p95,
            Statistic::P99 => self.p99,
        }
    }
}

/// The `q` quantile with the order-statistics interval of 95 % (Conover, Practical Nonparametric Statistics, 3.2):
/// the quantiles at `q ± z·√(q(1 − q)/n)`. It assumes that values are independent and nothing about their distribution.
fn percentile(statistics: &RunningStatistics, q: f64) -> Option<Estimate> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the width of an interval needs no more digits"
    )]
    let margin = Z_975 * (q * (1.0 - q) / statistics.count() as f64).sqrt();
    let end = |q: f64| statistics.quantile(q.clamp(0.0, 1.0));
    let interval = match (statistics.count(), end(q - margin), end(q + margin)) {
        (2.., Some(low), Some(high)) => Some(Interval { low, high }),
        _ => None,
    };
    Some(Estimate {
        value: statistics.quantile(q)?,
        interval,
    })
}

/// The order of the estimates from best to worst, each with its rank.
///
/// This is standard competition ranking ("1224") of groups. Going from the best to the worst, an estimate joins the
/// current group, and has its rank, if its interval overlaps the interval of the group's first estimate or if both
/// values are equal. Otherwise it starts a new group, whose rank is the estimate's position. Comparing with the first
/// of the group, not with the neighbour, prevents a chain of overlapping neighbours from making the best and the worst
/// equal. An estimate without an interval (a single value) is compared by its value alone. Equal values keep their
/// order.
pub(crate) fn ranked(estimates: &[Estimate], better: Direction) -> Vec<(usize, u32)> {
    let mut order: Vec<usize> = (0..estimates.len()).collect();
    order.sort_by(|&a, &b| {
        let ascending = estimates[a].value.total_cmp(&estimates[b].value);
        match better {
            Direction::Lower => ascending,
            Direction::Higher => ascending.reverse(),
        }
    });
    let mut first_of_group: Option<(Estimate, u32)> = None;
    (1..)
        .zip(order)
        .map(|(position, index)| {
            let estimate = estimates[index];
            let rank = match first_of_group {
                Some((first, rank)) if indistinguishable(first, estimate) => rank,
                _ => position,
            };
            if rank == position {
                first_of_group = Some((estimate, rank));
            }
            (index, rank)
        })
        .collect()
}

#[expect(
    clippy::float_cmp,
    reason = "equal exact results share a rank, near ones do so by their intervals"
)]
fn indistinguishable(a: Estimate, b: Estimate) -> bool {
    let overlap = matches!((a.interval, b.interval), (Some(a), Some(b)) if a.overlaps(b));
    overlap || a.value == b.value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(value: f64, margin: f64) -> Estimate {
        Estimate {
            value,
            interval: Some(Interval {
                low: value - margin,
                high: value + margin,
            }),
        }
    }

    #[test]
    fn direction_decides_who_is_first() {
        let estimates = [estimate(2.0, 0.1), estimate(1.0, 0.1), estimate(3.0, 0.1)];
        assert_eq!(ranked(&estimates, Direction::Lower), [(1, 1), (0, 2), (2, 3)]);
        assert_eq!(ranked(&estimates, Direction::Higher), [(2, 1), (0, 2), (1, 3)]);
    }

    #[test]
    fn overlapping_intervals_share_the_rank_of_the_groups_first() {
        // 1 and 2 overlap, 2 and 3 overlap, 1 and 3 do not: 3 starts a group of its own, at its position.
        let chain = [estimate(1.0, 0.6), estimate(2.0, 0.6), estimate(3.0, 0.6)];
        assert_eq!(ranked(&chain, Direction::Lower), [(0, 1), (1, 1), (2, 3)]);
    }

    #[test]
    fn without_intervals_only_equal_values_share_a_rank() {
        let single = |value| Estimate {
            value,
            interval: None,
        };
        let estimates = [single(1.0), single(2.0), single(1.0), estimate(1.5, 9.0)];
        assert_eq!(
            ranked(&estimates, Direction::Lower),
            [(0, 1), (2, 1), (3, 3), (1, 4)]
        );
        assert!(ranked(&[], Direction::Lower).is_empty());
    }

    #[test]
    fn a_summary_gives_what_the_statistics_say() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let statistics = RunningStatistics::try_from(values.as_slice()).unwrap();
        let summary = Summary::of(&statistics, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!((summary.n, summary.mean.value), (100, 50.5));
        let median = summary.p50.interval.unwrap();
        assert!((39.0..42.0).contains(&median.low) && (59.0..62.0).contains(&median.high));
        assert_eq!(Summary::of(&RunningStatistics::new(), DateTime::UNIX_EPOCH), None);

        let single = RunningStatistics::try_from([4.0].as_slice()).unwrap();
        let single = Summary::of(&single, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            (single.stddev, single.mean.interval, single.p99.interval),
            (None, None, None)
        );
    }
}
