//! Values put into a bounded number of bins.

use super::axis::{Axis, round_step};
use crate::evenly_spread::amount_within;

/// The share of values at either side that an axis may exclude.
const OUTERMOST: f64 = 0.01;
/// Rounding error of positions at the end of an axis.
const ROUNDING: f64 = 1e-9;

/// Counts of values in equal bins of an axis.
pub(super) struct Histogram {
    pub(super) axis: Axis,
    pub(super) counts: Vec<u64>,
    /// Number of values beyond the axis; they are counted in the first and last bin.
    pub(super) outside: usize,
}

impl Histogram {
    /// Of values in ascending order; `None` without values.
    pub(super) fn of(sorted: &[f64], bins: usize) -> Option<Self> {
        let axis = histogram_axis(sorted)?;
        let mut counts = vec![0; bins];
        let mut outside = 0;
        for share in sorted.iter().map(|value| axis.share(*value)) {
            counts[bin(share, bins)] += 1;
            outside += usize::from(!(-ROUNDING..=1.0 + ROUNDING).contains(&share));
        }
        Some(Self {
            axis,
            counts,
            outside,
        })
    }

    /// The ends of each bin and its count.
    pub(super) fn bars(&self) -> impl Iterator<Item = ([f64; 2], u64)> {
        let value = |n: usize| self.axis.value(n as f64 / self.counts.len() as f64);
        (0..)
            .zip(&self.counts)
            .map(move |(n, count)| ([value(n), value(n + 1)], *count))
    }
}

/// An axis of all values. The outermost values are excluded where the others would take less than half of a linear axis.
fn histogram_axis(sorted: &[f64]) -> Option<Axis> {
    let (low, high) = (*sorted.first()?, *sorted.last()?);
    let most = (quantile(sorted, OUTERMOST)?, quantile(sorted, 1.0 - OUTERMOST)?);
    let all = Axis::around(low, high);
    let is_squeezed = !all.is_log() && most.1 - most.0 < (high - low) / 2.0;
    let axis = if is_squeezed {
        Axis::around(most.0, most.1)
    } else {
        all
    };
    Some(axis.rounded())
}

/// Bins of equal and round width that cover a time, in seconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TimeBins {
    pub(super) width_s: f64,
    pub(super) number: usize,
}

impl TimeBins {
    /// At most `most` (at least one) bins that cover `length_s`.
    pub(super) fn covering(length_s: f64, most: usize) -> Self {
        let most = most.max(1);
        // A millisecond where the time has no length.
        let width_s = round_step((length_s / most as f64).max(0.001));
        let number = 1 + bin(length_s / (width_s * most as f64), most);
        Self {
            width_s,
            number: number.min(most),
        }
    }

    /// The bin of a moment; moments outside belong to the first or the last bin.
    pub(super) fn bin(&self, moment_s: f64) -> usize {
        bin(moment_s / self.length_s(), self.number)
    }

    /// Start of a bin.
    pub(super) fn start_s(&self, n: usize) -> f64 {
        n as f64 * self.width_s
    }

    /// Middle of a bin.
    pub(super) fn middle_s(&self, n: usize) -> f64 {
        (n as f64 + 0.5) * self.width_s
    }

    /// Width of all bins together.
    pub(super) fn length_s(&self) -> f64 {
        self.number as f64 * self.width_s
    }
}

/// Amounts that each come evenly over some time, summed in each time bin.
pub(super) struct RateSeries {
    bins: TimeBins,
    amounts: Vec<f64>,
}

impl RateSeries {
    pub(super) fn over(bins: TimeBins) -> Self {
        Self {
            bins,
            amounts: vec![0.0; bins.number],
        }
    }

    /// Adds `amount`, spread evenly from one moment to another. Moments outside of all bins belong to the first or the last.
    pub(super) fn add(&mut self, amount: f64, from_s: f64, to_s: f64) {
        let (first, last) = (self.bins.bin(from_s), self.bins.bin(to_s));
        if first == last {
            self.amounts[first] += amount;
            return;
        }
        for bin in first..=last {
            let window = [self.bins.start_s(bin), self.bins.start_s(bin + 1)];
            self.amounts[bin] += amount_within(amount, [from_s, to_s], window);
        }
    }

    /// The mean rate in each bin, per second.
    pub(super) fn per_second(self) -> Vec<f64> {
        let width_s = self.bins.width_s;
        self.amounts.into_iter().map(|amount| amount / width_s).collect()
    }
}

/// The nearest-rank quantile of values in ascending order; `None` without values.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = (share * sorted.len() as f64).ceil() - 1.0;
    Some(sorted[whole(rank).min(last)])
}

fn bin(share: f64, bins: usize) -> usize {
    whole(share * bins as f64).min(bins - 1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index: negative values become zero, and callers limit large ones"
)]
fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bin() {
        for values in [vec![0.1], vec![0.0, 0.0], vec![0.001, 0.2, 0.2, 90.0]] {
            let histogram = Histogram::of(&values, 50).unwrap();
            assert_eq!(histogram.counts.iter().sum::<u64>(), values.len() as u64);
            assert_eq!(histogram.bars().count(), 50);
        }
        assert!(Histogram::of(&[], 50).is_none());
    }

    #[test]
    fn the_outermost_values_do_not_squeeze_the_others() {
        let mut values: Vec<f64> = (0..1_000).map(|n| 0.005 + f64::from(n) * 1e-6).collect();
        values.insert(0, 0.0);
        values.push(0.1);
        let histogram = Histogram::of(&values, 50).unwrap();
        assert_eq!(histogram.outside, 2);
        assert_eq!(histogram.counts.iter().sum::<u64>(), 1_002);
        assert!(histogram.counts.iter().all(|count| *count < 50));
        assert_eq!(Histogram::of(&values[1..900], 50).unwrap().outside, 0);
    }

    #[test]
    fn time_is_covered_by_round_parts() {
        let bins = TimeBins::covering(61.0, 100);
        assert_eq!((bins.width_s, bins.number), (1.0, 62));
        assert_eq!((bins.bin(-1.0), bins.bin(60.5), bins.bin(1e9)), (0, 60, 61));
        assert_eq!(TimeBins::covering(0.0, 100).number, 1);
    }

    #[test]
    fn an_amount_is_spread_over_the_parts_that_it_touches() {
        let mut spread = RateSeries::over(TimeBins {
            width_s: 2.0,
            number: 4,
        });
        spread.add(6.0, 1.0, 7.0);
        spread.add(4.0, 3.0, 3.0);
        assert_eq!(spread.per_second(), [0.5, 3.0, 1.0, 0.5]);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), Some(100.0));
        assert_eq!(quantile(&values, 0.99), Some(198.0));
        assert_eq!(quantile(&values[..1], 0.99), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
