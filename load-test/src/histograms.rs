//! The two kinds of HdrHistograms that a load test has: durations of fixed size while requests are sent, and values of any
//! range for reports.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::Histogram;

/// One hour; longer durations are recorded as one hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Significant decimal digits of every histogram.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of nanoseconds, from 1 µs to an hour, in about 200 KiB. Recording never allocates.
#[must_use]
pub(crate) fn duration_histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants that it accepts")]
    Histogram::new_with_bounds(1_000, LONGEST_NS, SIGNIFICANT_DIGITS)
        .expect("1 µs to an hour with 3 digits is a valid histogram")
}

/// An empty histogram of any values; it grows with them.
#[must_use]
pub(crate) fn growing_histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "three digits are a valid precision")]
    Histogram::new(SIGNIFICANT_DIGITS).expect("a valid precision")
}

/// Adds `other` to `sum`, which either grows or has the same bounds.
pub(crate) fn merge(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    #[expect(clippy::expect_used, reason = "every value of the one fits into the other")]
    sum.add(other).expect("the same bounds, or a sum that grows");
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(LONGEST_NS)
}

/// The 99th percentile of nanoseconds, in seconds; `None` where the histogram is empty.
pub(crate) fn p99_s(nanos: &Histogram<u64>) -> Option<f64> {
    (!nanos.is_empty()).then(|| seconds_at(nanos, 0.99))
}

/// A quantile of nanoseconds, in seconds.
pub(crate) fn seconds_at(nanos: &Histogram<u64>, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an hour in ns is less than 2^53")]
    let seconds = nanos.value_at_quantile(quantile) as f64 / 1e9;
    seconds
}

/// Serialises a histogram as Base64 of HdrHistogram's V2 format; for `#[serde(with = "…")]`.
pub(crate) mod base64_v2 {
    use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
    use serde::{Deserialize, de, ser};

    use super::{BASE64_STANDARD, Engine, Histogram};

    pub(crate) fn serialize<S: serde::Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(ser::Error::custom)?;
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(de::Error::custom)?;
        let mut histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(de::Error::custom)?;
        // The format does not store that the histogram grows, and it must when others are merged into it.
        histogram.auto(true);
        Ok(histogram)
    }
}
