//! The state of one key: what is kept of its values, and what can be said about them.

use num_bigint::BigUint;

use crate::distributions::t_975;
use crate::dyadic::Dyadic;
use crate::error::{CountOverflow, ExtendError, NonFinite};
use crate::exact_sum::{ExactSum, ExactSumOfSquares};
use crate::limits::MAX_COUNT;
use crate::quantile_sketch::QuantileSketch;

/// Count, exact moments, extremes and quantiles of a multiset of finite doubles, in the unit of the values.
///
/// The state is a function of the multiset alone: values may come in any order, in any split, through any tree
/// of [merges](Self::merge), and equal multisets give states that are `==`, have equal
/// [bytes](Self::to_bytes) and answer every question with equal bits, on every platform. −0.0 counts as 0.0.
///
/// Memory: 1.7 KB and the quantile sketch, which is 512 bytes for every octave (factor of 2) with values and 8
/// for every octave between the lowest and the highest of them; 5 KB for values between 50 ms and 10 s, never
/// more than 2.2 MB, however many values there are.
///
/// ```
/// use statistics::RunningStatistics;
///
/// let mut morning = RunningStatistics::new();
/// morning.try_extend(&[0.1, 1e16, 0.2])?;
/// let mut evening = RunningStatistics::new();
/// evening.try_extend(&[-1e16, 0.3])?;
/// morning.merge(&evening)?;
/// assert_eq!(morning.count(), 5);
/// assert_eq!(morning.mean(), Some(0.12));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningStatistics {
    pub(crate) count: u64,
    /// `None` exactly while there are no values.
    pub(crate) extremes: Option<Extremes>,
    pub(crate) sum: ExactSum,
    pub(crate) squares: ExactSumOfSquares,
    pub(crate) sketch: QuantileSketch,
}

impl RunningStatistics {
    /// The state of no values.
    pub const fn new() -> Self {
        Self {
            count: 0,
            extremes: None,
            sum: ExactSum::ZERO,
            squares: ExactSumOfSquares::ZERO,
            sketch: QuantileSketch::EMPTY,
        }
    }

    /// Adds all values, or none of them.
    ///
    /// A call has a fixed cost of about that of twenty values, so add values in batches.
    ///
    /// # Errors
    /// A value is NaN or infinite, or there would be more than [`MAX_COUNT`] values. The state is unchanged.
    pub fn try_extend(&mut self, values: &[f64]) -> Result<(), ExtendError> {
        check_finite(values)?;
        self.count = checked_count(self.count, values.len() as u64)?;
        self.extremes = Extremes::of_finite(values)
            .into_iter()
            .chain(self.extremes)
            .reduce(Extremes::union);
        self.sum.add_finite(values);
        self.squares.add_finite(values);
        self.sketch.add_finite(values);
        Ok(())
    }

    /// Adds all values that `other` holds.
    ///
    /// # Errors
    /// There would be more than [`MAX_COUNT`] values. The state is unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), CountOverflow> {
        self.count = checked_count(self.count, other.count)?;
        self.extremes = self
            .extremes
            .into_iter()
            .chain(other.extremes)
            .reduce(Extremes::union);
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.sketch.merge(&other.sketch);
        Ok(())
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value; `None` without values.
    pub fn min(&self) -> Option<f64> {
        self.extremes.map(|extremes| extremes.min)
    }

    /// The largest value; `None` without values.
    pub fn max(&self) -> Option<f64> {
        self.extremes.map(|extremes| extremes.max)
    }

    /// The exact sum, for comparison with another account of the same values.
    pub fn exact_sum(&self) -> &ExactSum {
        &self.sum
    }

    /// The double nearest to the sum (ties to even); `None` where the sum is beyond the largest double.
    pub fn sum(&self) -> Option<f64> {
        self.sum.to_f64()
    }

    /// The double nearest to the exact mean (ties to even); `None` without values.
    pub fn mean(&self) -> Option<f64> {
        self.sum.to_dyadic().divide_rounded(&BigUint::from(self.count))
    }

    /// The double nearest to the exact sample variance `(n·Σx² − (Σx)²) / (n·(n − 1))` (ties to even), in the
    /// squared unit of the values; `None` for fewer than two values or where it is beyond the largest double.
    pub fn variance(&self) -> Option<f64> {
        self.sum_of_squared_deviations_times_n()
            .divide_rounded(&self.count_times_degrees())
    }

    /// The double nearest to the root of the exact sample variance; `None` for fewer than two values or where it
    /// is beyond the largest double. It may exist, and be positive, where the variance over- or underflows.
    pub fn stddev(&self) -> Option<f64> {
        self.sum_of_squared_deviations_times_n()
            .divide_sqrt_rounded(&self.count_times_degrees())
    }

    /// The 95 % confidence interval of the mean, `mean ± t·s/√n` with the 0.975 quantile `t` of Student's t for
    /// n − 1 degrees of freedom; `None` for fewer than two values or where an end is beyond the largest double.
    ///
    /// The interval presumes independent values whose mean is about normally distributed.
    pub fn ci95(&self) -> Option<(f64, f64)> {
        let mean = self.mean()?;
        let standard_error = self.stddev()? / (self.count as f64).sqrt();
        let margin = t_975(self.count - 1) * standard_error;
        let (low, high) = (mean - margin, mean + margin);
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }

    /// The value of rank `⌈q·n⌉` (at least 1) in ascending order, to within 1/128 (0.79 %) of that value and
    /// never outside `[min, max]`; `None` without values or where `q` is not in `0.0..=1.0`.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let Extremes { min, max } = self.extremes?;
        let rank = rank_of_quantile(q, self.count)?;
        self.sketch.value_at_rank(rank).map(|value| value.clamp(min, max))
    }

    /// `n·Σx² − (Σx)²`
    pub(crate) fn sum_of_squared_deviations_times_n(&self) -> Dyadic {
        let sum = self.sum.to_dyadic();
        &self.squares.to_dyadic().times(self.count) - &(&sum * &sum)
    }

    /// `n·(n − 1)`; 0 where the variance is undefined.
    fn count_times_degrees(&self) -> BigUint {
        BigUint::from(self.count) * self.count.saturating_sub(1)
    }
}

impl Default for RunningStatistics {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<&[f64]> for RunningStatistics {
    type Error = ExtendError;

    fn try_from(values: &[f64]) -> Result<Self, ExtendError> {
        let mut statistics = Self::new();
        statistics.try_extend(values)?;
        Ok(statistics)
    }
}

/// Smallest and largest value: finite, and never −0.0, which would make the result depend on the order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

// Finite values are equal to themselves.
impl Eq for Extremes {}

impl Extremes {
    fn of_finite(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let (min, max) = values.iter().fold((first, first), |(min, max), &value| {
            (
                if value < min { value } else { min },
                if value > max { value } else { max },
            )
        });
        // −0.0 + 0.0 is 0.0; every other value stays.
        Some(Self {
            min: min + 0.0,
            max: max + 0.0,
        })
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

fn check_finite(values: &[f64]) -> Result<(), NonFinite> {
    // A search that stops early is not vectorised; the search for the culprit may be slow.
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, &value)) => Err(NonFinite { index, value }),
        None => Ok(()),
    }
}

fn checked_count(count: u64, added: u64) -> Result<u64, CountOverflow> {
    count
        .checked_add(added)
        .filter(|&total| total <= MAX_COUNT)
        .ok_or(CountOverflow { count, added })
}

/// `⌈q·count⌉`, at least 1 and at most `count`.
///
/// `q` is read as the decimal fraction it stands for: 0.07 is a little more than 7/100 as a double, and yet the
/// 0.07 quantile of 100 values is the seventh, not the eighth. So a product within rounding of an integer is it.
fn rank_of_quantile(q: f64, count: u64) -> Option<u64> {
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    let position = q * count as f64;
    let nearest = position.round();
    let is_integer = (position - nearest).abs() <= position * f64::EPSILON;
    let rank = if is_integer { nearest } else { position.ceil() };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 ≤ rank ≤ count as a double"
    )]
    Some((rank as u64).clamp(1, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> RunningStatistics {
        RunningStatistics::try_from(values).unwrap()
    }

    #[test]
    fn without_values_nothing_is_known() {
        let empty = RunningStatistics::default();
        assert_eq!(empty.count(), 0);
        assert_eq!(empty.sum(), Some(0.0));
        for unknown in [
            empty.mean(),
            empty.min(),
            empty.max(),
            empty.variance(),
            empty.stddev(),
        ] {
            assert_eq!(unknown, None);
        }
        assert_eq!(empty.quantile(0.5), None);
        assert_eq!(empty.ci95(), None);
    }

    #[test]
    fn one_value_has_a_mean_but_no_spread() {
        let one = of(&[0.1]);
        assert_eq!(
            (one.mean(), one.min(), one.max()),
            (Some(0.1), Some(0.1), Some(0.1))
        );
        assert_eq!(one.quantile(0.99), Some(0.1));
        assert_eq!((one.variance(), one.stddev(), one.ci95()), (None, None, None));
    }

    #[test]
    fn a_textbook_sample() {
        let sample = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(sample.mean(), Some(5.0));
        assert_eq!(sample.variance(), Some(32.0 / 7.0));
        assert_eq!(sample.stddev(), Some((32.0_f64 / 7.0).sqrt()));
        let (low, high) = sample.ci95().unwrap();
        // 5 ± 2.364624 · 2.138090 / √8
        assert!(
            (low - 3.212_512).abs() < 1e-6 && (high - 6.787_488).abs() < 1e-6,
            "{low} {high}"
        );
    }

    #[test]
    fn a_non_finite_value_leaves_the_state_as_it_was() {
        let mut state = of(&[1.0]);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = state.try_extend(&[2.0, bad, 3.0, bad]).unwrap_err();
            assert!(
                matches!(error, ExtendError::NonFinite(NonFinite { index: 1, .. })),
                "{error}"
            );
        }
        assert_eq!(state, of(&[1.0]));
    }

    #[test]
    fn the_sign_of_zero_does_not_show() {
        let zeros = of(&[-0.0]);
        assert_eq!(zeros, of(&[0.0]));
        assert_eq!(zeros.min().map(f64::to_bits), Some(0));
        assert_eq!(zeros.max().map(f64::to_bits), Some(0));
        assert_eq!(zeros.mean().map(f64::to_bits), Some(0));
    }

    #[test]
    fn the_count_ends_at_its_limit_and_the_sums_hold_that_many_extreme_values() {
        for value in [f64::MAX, f64::MIN, 5e-324, -5e-324] {
            let mut state = of(&[value]);
            for _ in 0..62 {
                state.merge(&state.clone()).unwrap();
            }
            assert_eq!(state.count(), 1 << 62);
            assert_eq!((state.mean(), state.variance()), (Some(value), Some(0.0)));
            assert_eq!(state.quantile(0.5), Some(value));
            let before = state.clone();
            let refused = CountOverflow {
                count: 1 << 62,
                added: 1 << 62,
            };
            assert_eq!(state.merge(&before), Err(refused));
            assert_eq!(state, before);
            assert_eq!(RunningStatistics::from_bytes(&before.to_bytes()), Ok(before));
        }
    }

    #[test]
    fn carries_hold_for_blocks_of_full_mantissas_at_every_position() {
        // One more than a multiple of the values between two carries.
        let count = 4 * crate::superaccumulator::TERMS_PER_CARRY + 1;
        for exponent in 900..=964 {
            let value = f64::from_bits(exponent << 52 | ((1 << 52) - 1));
            for value in [value, -value] {
                let state = of(&vec![value; count]);
                assert_eq!((state.mean(), state.variance()), (Some(value), Some(0.0)));
            }
        }
    }

    #[test]
    fn the_deviation_exists_where_the_variance_does_not() {
        let large = of(&[1e300, -1e300]);
        assert_eq!((large.mean(), large.variance()), (Some(0.0), None));
        assert_eq!(large.stddev(), Some(1e300 * std::f64::consts::SQRT_2));
        let small = of(&[1e-300, 3e-300]);
        assert_eq!(small.variance(), Some(0.0));
        assert!(small.stddev().unwrap() > 1.4e-300);
        assert_eq!(of(&[f64::MAX, f64::MIN]).stddev(), None);
        assert_eq!(of(&[f64::MAX, f64::MAX]).sum(), None);
    }

    #[test]
    fn ranks_are_those_of_the_decimal_fraction() {
        for count in 1..=3000 {
            for thousandths in 0..=1000_u64 {
                let exact = (thousandths * count).div_ceil(1000).max(1);
                let q = thousandths as f64 / 1000.0;
                assert_eq!(rank_of_quantile(q, count), Some(exact), "q = {q}, n = {count}");
            }
        }
    }

    #[test]
    fn a_quantile_is_asked_for_between_0_and_1() {
        let state = of(&[1.0, 2.0]);
        assert_eq!(
            (state.quantile(0.0), state.quantile(1.0)),
            (Some(1.0078125), Some(2.0))
        );
        for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(state.quantile(q), None);
        }
    }
}
