//! The values of one metric, in bounded memory and mergeable.

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, de};
use statistics::{ExtendError, RunningStatistics};

use super::distribution::Distribution;
use crate::histograms::{self, growing_histogram};

/// The unit of values, and the resolution of their histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleUnit {
    /// Seconds, in a histogram of nanoseconds.
    Seconds,
    /// Tokens per second, in a histogram of millionths.
    TokensPerSecond,
    /// Tokens.
    Tokens,
}

impl SampleUnit {
    /// Ticks of the histogram per unit.
    #[must_use]
    pub const fn ticks(self) -> f64 {
        match self {
            Self::Seconds => 1e9,
            Self::TokensPerSecond => 1e6,
            Self::Tokens => 1.0,
        }
    }
}

/// The values of one metric: a histogram for percentiles, exact moments for everything else.
///
/// The result does not depend on the order of values and merges.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    unit: SampleUnit,
    histogram: Histogram<u64>,
    moments: RunningStatistics,
}

impl Samples {
    /// Without values.
    #[must_use]
    pub fn new(unit: SampleUnit) -> Self {
        Self {
            unit,
            histogram: growing_histogram(),
            moments: RunningStatistics::new(),
        }
    }

    /// Of these values, which have to be finite.
    #[expect(clippy::expect_used, reason = "as the caller says")]
    pub(super) fn of(unit: SampleUnit, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let mut samples = Self::new(unit);
        samples.try_extend(&values).expect("finite values");
        samples
    }

    /// Adds non-negative values, in the unit.
    ///
    /// # Errors
    ///
    /// Where one is not finite; nothing is added then.
    #[expect(
        clippy::expect_used,
        reason = "a histogram of 64-bit values grows wherever usize has 64 bits"
    )]
    pub fn try_extend(&mut self, values: &[f64]) -> Result<(), ExtendError> {
        self.moments.try_extend(values)?;
        for value in values {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates: negative values become 0"
            )]
            let ticks = (value * self.unit.ticks()).round() as u64;
            self.histogram.record(ticks).expect("histograms grow");
        }
        Ok(())
    }

    /// Adds all values of `other`.
    ///
    /// # Panics
    ///
    /// Where `other` has another unit, or there would be more than 2^63 values.
    #[expect(
        clippy::expect_used,
        reason = "2^63 values are centuries of load, and histograms grow"
    )]
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.unit, other.unit, "values of two units");
        self.moments
            .merge(&other.moments)
            .expect("fewer than 2^63 values");
        histograms::merge(&mut self.histogram, &other.histogram);
    }

    /// The figures of the values.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let (Some(min), Some(max)) = (self.moments.min(), self.moments.max()) else {
            return Distribution::default();
        };
        let to_unit = |ticks: u64| (ticks as f64 / self.unit.ticks()).clamp(min, max);
        Distribution {
            mean: self.moments.mean(),
            stddev: self.moments.stddev(),
            min: Some(min),
            max: Some(max),
            ..Distribution::percentiles(&self.histogram, &to_unit)
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    unit: SampleUnit,
    #[serde(with = "histograms::base64_v2")]
    histogram: Histogram<u64>,
    moments: String,
}

impl Serialize for Samples {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = Wire {
            unit: self.unit,
            histogram: self.histogram.clone(),
            moments: BASE64_STANDARD.encode(self.moments.to_bytes()),
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(&wire.moments).map_err(de::Error::custom)?;
        let moments = RunningStatistics::from_bytes(&bytes).map_err(de::Error::custom)?;
        if moments.count() != wire.histogram.len() {
            return Err(de::Error::custom(format_args!(
                "a histogram of {} values with moments of {}",
                wire.histogram.len(),
                moments.count()
            )));
        }
        Ok(Self {
            unit: wire.unit,
            histogram: wire.histogram,
            moments,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(unit: SampleUnit, values: &[f64]) -> Samples {
        let mut samples = Samples::new(unit);
        samples.try_extend(values).unwrap();
        samples
    }

    #[test]
    fn one_value_is_all_of_its_percentiles() {
        let one = of(SampleUnit::Seconds, &[0.123_456_789]).distribution();
        for figure in [one.mean, one.min, one.p50, one.p95, one.max] {
            assert_eq!(figure, Some(0.123_456_789));
        }
        assert_eq!((one.stddev, one.p99, one.ci95_p50), (None, None, None));
    }

    #[test]
    fn percentiles_appear_with_the_sample_that_supports_them() {
        let figures = |n: u32| {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            of(SampleUnit::Tokens, &values).distribution()
        };
        assert_eq!(figures(999).p99, None);
        assert_eq!(figures(1000).p99, Some(990.0));
        assert_eq!((figures(9_999).p999, figures(999).ci95_p99), (None, None));
        assert!(
            figures(10_000)
                .p999
                .is_some_and(|p999| (p999 - 9_990.0).abs() <= 10.0)
        );
        // Conover's normal approximation: ranks 500 ± 1.96·√250.
        assert_eq!(figures(1000).ci95_p50, Some((469.0, 532.0)));
        let (lower, upper) = figures(1000).ci95_p99.unwrap();
        assert!(
            lower < 990.0 && upper > 990.0 && lower >= 983.0 && upper <= 997.0,
            "{lower} {upper}"
        );
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        let mut samples = of(SampleUnit::Seconds, &[1.0]);
        assert!(samples.try_extend(&[2.0, f64::NAN]).is_err());
        assert_eq!(samples, of(SampleUnit::Seconds, &[1.0]));
    }

    #[test]
    fn parts_that_contradict_themselves_are_refused() {
        let mut wire = serde_json::to_value(of(SampleUnit::Seconds, &[1.0])).unwrap();
        wire["moments"] =
            serde_json::to_value(of(SampleUnit::Seconds, &[1.0, 2.0])).unwrap()["moments"].clone();
        let error = serde_json::from_value::<Samples>(wire).unwrap_err();
        assert_eq!(error.to_string(), "a histogram of 1 values with moments of 2");
    }

    proptest! {
        #[test]
        fn however_split_they_merge_to_the_whole(
            values in prop::collection::vec(0.0..1000.0_f64, 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(values.len() + 1)).collect();
            cuts.sort_unstable();
            let mut merged = Samples::new(SampleUnit::Seconds);
            let mut start = 0;
            for end in cuts.into_iter().chain([values.len()]) {
                let json = serde_json::to_string(&of(SampleUnit::Seconds, &values[start..end])).unwrap();
                merged.merge(&serde_json::from_str(&json).unwrap());
                start = end;
            }
            let whole = of(SampleUnit::Seconds, &values);
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(merged.distribution(), whole.distribution());
        }

        #[test]
        fn percentiles_are_within_a_thousandth_of_the_sorted_values(
            values in prop::collection::vec(1e-6..1000.0_f64, 1..300),
        ) {
            let figures = of(SampleUnit::Seconds, &values).distribution();
            let mut sorted = values;
            sorted.sort_unstable_by(f64::total_cmp);
            let rank = (sorted.len() * 9).div_ceil(10);
            let exact = sorted[rank - 1];
            prop_assert!((figures.p90.unwrap() / exact - 1.0).abs() < 2e-3);
        }
    }
}
