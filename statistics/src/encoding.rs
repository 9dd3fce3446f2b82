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

use num_bigint::{BigInt, BigUint, Sign};

use crate::dyadic::{Dyadic, MIN_EXPONENT};
use crate::error::DecodeError;
use crate::exact_sum::{ExactSum, ExactSumOfSquares};
use crate::quantile_sketch::{BUCKET_INDEXES, BucketIndex, QuantileSketch, bucket_of};
use crate::running_statistics::{Extremes, MAX_COUNT, RunningStatistics};

/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u8 = 1;

impl RunningStatistics {
    /// The canonical bytes of the state: equal states have equal bytes, whatever their history.
    ///
    /// Size: about 60 bytes and one or two for every bucket with values (at most 64 an octave); 1 000 latencies
    /// of a log-normal distribution take some 400 bytes.
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
    /// nothing panics or overflows later. Memory is in proportion to the bytes until all checks have passed.
    ///
    /// # Errors
    /// The bytes are not exactly one canonical encoding of a state that values can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { rest: bytes };
        let state = decode(&mut reader)?;
        match reader.rest.len() {
            0 => Ok(state),
            count => Err(DecodeError::TrailingBytes { count }),
        }
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

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

fn write_exact(bytes: &mut Vec<u8>, value: &Dyadic, unit_exponent: i64) {
    let (sign, magnitude) = value.mantissa().to_bytes_le();
    if sign == Sign::NoSign {
        return write_varint(bytes, 0);
    }
    write_varint(
        bytes,
        (magnitude.len() as u64) << 1 | u64::from(sign == Sign::Minus),
    );
    write_varint(bytes, (value.exponent() - unit_exponent).unsigned_abs());
    bytes.extend(magnitude);
}

/// What is left of the bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: u64, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|[byte]| byte)
    }

    fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(field)?;
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                return Err(DecodeError::OutOfRange { field });
            }
            value |= digit << shift;
            if byte & 0x80 == 0 {
                let superfluous = byte == 0 && shift > 0;
                return if superfluous {
                    Err(DecodeError::NotCanonical { field })
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::OutOfRange { field })
    }

    fn exact(&mut self, field: &'static str, unit_exponent: i64) -> Result<Dyadic, DecodeError> {
        let head = self.varint(field)?;
        if head == 0 {
            return Ok(Dyadic::new(BigInt::ZERO, 0));
        }
        let position = self.varint(field)?;
        let magnitude = self.bytes(head >> 1, field)?;
        let (Some(lowest), Some(highest)) = (magnitude.first(), magnitude.last()) else {
            return Err(DecodeError::NotCanonical { field });
        };
        if lowest & 1 == 0 || *highest == 0 {
            return Err(DecodeError::NotCanonical { field });
        }
        let sign = if head & 1 == 1 { Sign::Minus } else { Sign::Plus };
        let exponent = i64::try_from(position)
            .ok()
            .and_then(|position| position.checked_add(unit_exponent))
            .ok_or(DecodeError::OutOfRange { field })?;
        Ok(Dyadic::new(
            BigInt::from_biguint(sign, BigUint::from_bytes_le(magnitude)),
            exponent,
        ))
    }
}
