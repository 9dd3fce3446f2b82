//! Statistics of a series of numbers as pandas computes them.

use statistics::RunningStatistics;

/// A series of finite numbers without missing values (`dropna`).
#[derive(Debug, Clone)]
pub(super) struct Series {
    sorted: Vec<f64>,
    moments: RunningStatistics,
}

impl Series {
    pub(super) fn new(values: impl Iterator<Item = Option<f64>>) -> Self {
        let mut sorted: Vec<f64> = values.flatten().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        #[expect(
            clippy::expect_used,
            reason = "latencies, counts and quotients by positive numbers"
        )]
        let moments = RunningStatistics::try_from(sorted.as_slice()).expect("finite values");
        Self { sorted, moments }
    }

    /// Linear interpolation between the neighbours of `q·(n − 1)`, with numpy's formula; `None` without values.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let position = q * self.sorted.len().checked_sub(1)? as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 ≤ position ≤ n − 1"
        )]
        let below = position.floor() as usize;
        let (lower, upper) = (
            self.sorted[below],
            self.sorted[(below + 1).min(self.sorted.len() - 1)],
        );
        let share = position - position.floor();
        let step = upper - lower;
        // numpy interpolates from the nearer end, so that share 1 gives the upper one exactly.
        Some(if share < 0.5 {
            lower + step * share
        } else {
            upper - step * (1.0 - share)
        })
    }

    pub(super) fn mean(&self) -> Option<f64> {
        self.moments.mean()
    }

    pub(super) fn stddev(&self) -> Option<f64> {
        self.moments.stddev()
    }

    pub(super) fn min(&self) -> Option<f64> {
        self.moments.min()
    }

    pub(super) fn max(&self) -> Option<f64> {
        self.moments.max()
    }

    pub(super) fn sum(&self) -> f64 {
        self.moments.sum().unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of `numpy.quantile([1, 2, 4, 8], q)`.
    #[test]
    fn quantiles_are_interpolated() {
        let series = Series::new([8.0, 1.0, 4.0, 2.0].map(Some).into_iter().chain([None]));
        for (q, expected) in [(0.25, 1.75), (0.5, 3.0), (0.75, 5.0), (0.99, 7.88)] {
            let found = series.quantile(q).unwrap();
            assert!((found - expected).abs() < 1e-12, "{q}: {found}");
        }
        assert_eq!(
            (series.quantile(0.0), series.quantile(1.0)),
            (Some(1.0), Some(8.0))
        );
        assert_eq!((series.mean(), series.sum()), (Some(3.75), 15.0));
    }

    #[test]
    fn one_value_has_quantiles_and_no_deviation() {
        let one = Series::new([Some(3.0)].into_iter());
        assert_eq!((one.quantile(0.99), one.stddev()), (Some(3.0), None));
        let none = Series::new(std::iter::empty());
        assert_eq!((none.quantile(0.5), none.mean()), (None, None));
    }
}
