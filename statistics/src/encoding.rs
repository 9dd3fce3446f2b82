//! The bytes of a state, for a database column.
//!
//! | field | form |
//! |---|---|
//! | version | 1 byte: 1 |
//! | count | varint; nothing follows where it is 0 |
//! | min, max | 8 bytes each: IEEE 754 double, little endian |
//! | sum | exact number in units of 2^-1074 |
//! | squares | exact number in units of 2^-2148 |
//! | buckets | until their counts add up to `count`: each ascending |
//!
//! - varint: LEB128, 7 bits a byte, the lowest first, no superfluous bytes.
//! - exact number: varint `length << 1 | negative`; where the length is not 0, varint `position` and `length` bytes,
//!   little endian, of the odd integer that times `2^position` is the number of units; no leading zero byte.
//! - bucket: its place on one line of integers: 0 is the bucket of zero, then follow upwards those of positive
//!   and downwards those of negative values. First bucket: varint zigzag(place), varint count. Every other:
//!   varint `count << 1 | gap`; where gap is 1, varint `places left out − 1`.
//!
//! Every state has one encoding, and [`decode`] accepts no other: equal bytes if and only if equal states.

use crate::dyadic::{Dyadic, MIN_EXPONENT};
use crate::encoded_numbers::{Reader, write_exact, write_varint};
use crate::error::DecodeError;
use crate::exact_sum::{ExactSum, ExactSumOfSquares};
use crate::limits::{FORMAT_VERSION, MAX_COUNT};
use crate::quantile_sketch::{BUCKET_INDEXES, BucketIndex, QuantileSketch, bucket_of};
use crate::running_statistics::{Extremes, RunningStatistics};

impl RunningStatistics {
    /// The canonical bytes of the state: equal states have equal bytes, whatever their history.
    ///
    /// Size: about 60 bytes and one or two for every bucket with values (at most 64 an octave); 1 000 latencies
    /// of a log-normal distribution take some 300 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT_VERSION];
        write_varint(&mut bytes, self.count);
        if let Some(Extremes { min, max }) = self.extremes {
            bytes.extend(min.to_le_bytes());
            bytes.extend(max.to_le_bytes());
            write_exact(&mut bytes, &self.sum.to_dyadic(), MIN_EXPONENT);
            write_exact(&mut bytes, &self.squares.to_dyadic(), 2 * MIN_EXPONENT);
            write_buckets(&mut bytes, &self.sketch);
        }
        bytes
    }

    /// The state that [`Self::to_bytes`] wrote.
    ///
    /// The parts are checked against each other, so that a state that is returned behaves as one of real values:
    /// nothing panics or overflows later. Memory is in proportion to the bytes, and that of the state returned.
    ///
    /// # Errors
    /// The bytes are not exactly one canonical encoding of a state that values can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let state = decode(&mut reader)?;
        reader.finish()?;
        Ok(state)
    }
}

fn decode(reader: &mut Reader<'_>) -> Result<RunningStatistics, DecodeError> {
    let version = reader.byte("version")?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnsupportedVersion { found: version });
    }
    let count = reader.varint("count")?;
    if count == 0 {
        return Ok(RunningStatistics::new());
    }
    if count > MAX_COUNT {
        return Err(DecodeError::OutOfRange { field: "count" });
    }
    let extremes = read_extremes(reader)?;
    let sum = reader.exact("sum", MIN_EXPONENT)?;
    let squares = reader.exact("squares", 2 * MIN_EXPONENT)?;
    let buckets = read_buckets(reader, count)?;
    check_ends(&buckets, extremes)?;
    let mut state = RunningStatistics {
        count,
        extremes: Some(extremes),
        sum: ExactSum::from_dyadic(&sum).ok_or(DecodeError::OutOfRange { field: "sum" })?,
        squares: ExactSumOfSquares::from_dyadic(&squares)
            .ok_or(DecodeError::OutOfRange { field: "squares" })?,
        sketch: QuantileSketch::EMPTY,
    };
    check_moments(&state, &sum, extremes)?;
    for (bucket, count) in buckets {
        state.sketch.add(bucket, count);
    }
    Ok(state)
}

/// The mean lies between the extremes, and the variance between 0 and the bound of Bhatia and Davis (Amer. Math.
/// Monthly 107, 2000), `(max − mean)·(mean − min)`; all of it exact, and multiplied by the count.
fn check_moments(state: &RunningStatistics, sum: &Dyadic, extremes: Extremes) -> Result<(), DecodeError> {
    let above_min = sum - &Dyadic::from_f64(extremes.min).times(state.count);
    let below_max = &Dyadic::from_f64(extremes.max).times(state.count) - sum;
    if above_min.is_negative() || below_max.is_negative() {
        return Err(DecodeError::Inconsistent {
            what: "the mean lies between min and max",
        });
    }
    let deviations = state.sum_of_squared_deviations_times_n();
    if deviations.is_negative() || (&(&above_min * &below_max) - &deviations).is_negative() {
        return Err(DecodeError::Inconsistent {
            what: "the sum of squares fits sum, min and max",
        });
    }
    Ok(())
}

type Bucket = (Option<BucketIndex>, u64);

fn check_ends(buckets: &[Bucket], extremes: Extremes) -> Result<(), DecodeError> {
    let end = |bucket: Option<&Bucket>| bucket.map(|&(bucket, _)| bucket);
    let expected = (Some(bucket_of(extremes.min)), Some(bucket_of(extremes.max)));
    if (end(buckets.first()), end(buckets.last())) != expected {
        return Err(DecodeError::Inconsistent {
            what: "min and max are in the first and the last bucket",
        });
    }
    Ok(())
}

fn read_extremes(reader: &mut Reader<'_>) -> Result<Extremes, DecodeError> {
    let mut read = |field| {
        let value = f64::from_le_bytes(reader.array(field)?);
        if !value.is_finite() {
            return Err(DecodeError::OutOfRange { field });
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(DecodeError::NotCanonical { field });
        }
        Ok(value)
    };
    let extremes = Extremes {
        min: read("min")?,
        max: read("max")?,
    };
    if extremes.min > extremes.max {
        return Err(DecodeError::Inconsistent {
            what: "min is at most max",
        });
    }
    Ok(extremes)
}

/// The place of a bucket on a line of integers that has room for the bucket of zero.
fn place_of(bucket: Option<BucketIndex>) -> i64 {
    bucket.map_or(0, |index| i64::from(index) + i64::from(index >= 0))
}

fn bucket_at(place: i64) -> Result<Option<BucketIndex>, DecodeError> {
    if place == 0 {
        return Ok(None);
    }
    let index = BucketIndex::try_from(place - i64::from(place > 0)).ok();
    let index = index.filter(|index| BUCKET_INDEXES.contains(index));
    index
        .map(Some)
        .ok_or(DecodeError::OutOfRange { field: "buckets" })
}

fn write_buckets(bytes: &mut Vec<u8>, sketch: &QuantileSketch) {
    let mut previous = None;
    for (bucket, count) in sketch.buckets() {
        let place = place_of(bucket);
        match previous.map(|previous| place.abs_diff(previous) - 1) {
            None => {
                write_varint(bytes, ((place << 1) ^ (place >> 63)).cast_unsigned());
                write_varint(bytes, count);
            }
            Some(0) => write_varint(bytes, count << 1),
            Some(gap) => {
                write_varint(bytes, count << 1 | 1);
                write_varint(bytes, gap - 1);
            }
        }
        previous = Some(place);
    }
}

/// `total` is at least 1.
fn read_buckets(reader: &mut Reader<'_>, total: u64) -> Result<Vec<Bucket>, DecodeError> {
    let field = "buckets";
    let zigzag = reader.varint(field)?;
    let mut place = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let mut count = reader.varint(field)?;
    let mut buckets = Vec::new();
    let mut left = total;
    loop {
        if count == 0 {
            return Err(DecodeError::NotCanonical { field });
        }
        buckets.push((bucket_at(place)?, count));
        left = left.checked_sub(count).ok_or(DecodeError::Inconsistent {
            what: "the buckets hold as many values as are counted",
        })?;
        if left == 0 {
            return Ok(buckets);
        }
        let head = reader.varint(field)?;
        count = head >> 1;
        let left_out = if head & 1 == 1 {
            reader.varint(field)?.saturating_add(1)
        } else {
            0
        };
        // `place` is that of a bucket, far from the ends of the type.
        place = place.saturating_add_unsigned(left_out).saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn of(values: &[f64]) -> RunningStatistics {
        RunningStatistics::try_from(values).unwrap()
    }

    /// Stored states outlive the program: another form needs another version.
    #[test]
    fn the_format_of_version_1_is_fixed() {
        assert_eq!(RunningStatistics::new().to_bytes(), [1, 0]);
        let mut expected = vec![1, 4];
        expected.extend((-1.5_f64).to_le_bytes());
        expected.extend(2.0_f64.to_le_bytes());
        // Σx = 2.5 = 5 · 2^-1, which is 2^1073 units.
        expected.extend([2, 0xb1, 0x08, 5]);
        // Σx² = 10.25 = 41 · 2^-2, which is 2^2146 units.
        expected.extend([2, 0xe2, 0x10, 41]);
        // −1.5 is in bucket 32 of octave 1074: index !68768, place −68769, zigzag 137537.
        expected.extend([0xc1, 0xb2, 0x08, 1]);
        // Up to 0, 68768 places are left out, and up to 2.0 (index 68800, place 68801) 68800.
        expected.extend([3, 0x9f, 0x99, 0x04]);
        expected.extend([5, 0xbf, 0x99, 0x04]);
        let state = of(&[2.0, -1.5, 0.0, 2.0]);
        assert_eq!(state.to_bytes(), expected);
        assert_eq!(RunningStatistics::from_bytes(&expected), Ok(state));
    }

    #[test]
    fn every_fault_has_its_error() {
        let inconsistent = |what| DecodeError::Inconsistent { what };
        let out_of_range = |field| DecodeError::OutOfRange { field };
        let not_canonical = |field| DecodeError::NotCanonical { field };
        let faults: &[(Range<usize>, &[u8], DecodeError)] = &[
            (0..1, &[2], DecodeError::UnsupportedVersion { found: 2 }),
            (1..2, &[0], DecodeError::TrailingBytes { count: 36 }),
            (
                1..2,
                &[3],
                inconsistent("the buckets hold as many values as are counted"),
            ),
            (1..2, &[5], DecodeError::Truncated { field: "buckets" }),
            (1..2, &[0x84, 0], not_canonical("count")),
            (
                1..2,
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
                out_of_range("count"),
            ),
            (
                1..2,
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
                out_of_range("count"),
            ),
            (2..10, &f64::NAN.to_le_bytes(), out_of_range("min")),
            (2..10, &3.0_f64.to_le_bytes(), inconsistent("min is at most max")),
            (
                2..10,
                &(-1.0_f64).to_le_bytes(),
                inconsistent("min and max are in the first and the last bucket"),
            ),
            (10..18, &(-0.0_f64).to_le_bytes(), not_canonical("max")),
            (18..19, &[1], not_canonical("sum")),
            (19..21, &[0xff, 0x7f], out_of_range("sum")),
            (21..22, &[4], not_canonical("sum")),
            (21..22, &[17], inconsistent("the mean lies between min and max")),
            (
                22..23,
                &[3],
                inconsistent("the sum of squares fits sum, min and max"),
            ),
            (23..25, &[0xff, 0x7f], out_of_range("squares")),
            (
                25..26,
                &[55],
                inconsistent("the sum of squares fits sum, min and max"),
            ),
            (
                25..26,
                &[5],
                inconsistent("the sum of squares fits sum, min and max"),
            ),
            (26..29, &[0xff, 0xff, 0x7f], out_of_range("buckets")),
            (29..30, &[0], not_canonical("buckets")),
        ];
        let valid = of(&[2.0, -1.5, 0.0, 2.0]).to_bytes();
        for (range, replacement, error) in faults {
            let mut bytes = valid.clone();
            bytes.splice(range.clone(), replacement.iter().copied());
            let decoded = RunningStatistics::from_bytes(&bytes);
            assert_eq!(decoded, Err(*error), "{replacement:?} at {range:?}");
        }
    }

    #[test]
    fn a_cut_anywhere_is_noticed() {
        let valid = of(&[2.0, -1.5, 0.0, 2.0]).to_bytes();
        for length in 0..valid.len() {
            let cut = RunningStatistics::from_bytes(&valid[..length]);
            assert!(
                matches!(cut, Err(DecodeError::Truncated { .. })),
                "{length} bytes: {cut:?}"
            );
        }
    }
}
