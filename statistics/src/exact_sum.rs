//! Sums of doubles and of their squares that never round.

use std::fmt;

use num_bigint::BigUint;

use crate::dyadic::{Dyadic, MIN_EXPONENT, decompose};
use crate::superaccumulator::Superaccumulator;

const CHUNK_MASK: u64 = 0xffff_ffff;

/// 2^63 values of 2098 bits need 2161 bits and a sign: 68 chunks of 32 bits.
const SUM_CHUNKS: usize = 68;
/// 2^63 squares of 4196 bits need 4259 bits and a sign: 134 chunks of 32 bits.
const SQUARES_CHUNKS: usize = 134;

/// The exact sum of up to 2^63 doubles.
///
/// Two sums are equal exactly if the real numbers are: neither order nor grouping of the additions shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ExactSum {
    accumulator: Superaccumulator<SUM_CHUNKS>,
}

impl ExactSum {
    pub(crate) const ZERO: Self = Self {
        accumulator: Superaccumulator::ZERO,
    };

    /// Adds values that are all finite.
    pub(crate) fn add_finite(&mut self, values: &[f64]) {
        self.accumulator.add_terms(values, |chunks, value| {
            let (mantissa, position) = decompose(value);
            let (chunk, shift) = ((position / 32) as usize, position % 32);
            // Negation without a branch: signs of data are hard to predict.
            let sign = value.to_bits().cast_signed() >> 63;
            let low = (mantissa << shift & CHUNK_MASK) as i64;
            let high = (mantissa >> (32 - shift)) as i64;
            chunks[chunk] += (low ^ sign) - sign;
            chunks[chunk + 1] += (high ^ sign) - sign;
        });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.accumulator.merge(&other.accumulator);
    }

    /// The double nearest to the sum, ties to even; `None` where the sum is beyond the largest double.
    pub fn to_f64(&self) -> Option<f64> {
        self.to_dyadic().divide_rounded(&BigUint::from(1u8))
    }

    pub(crate) fn to_dyadic(&self) -> Dyadic {
        self.accumulator.to_dyadic(MIN_EXPONENT)
    }

    pub(crate) fn from_dyadic(value: &Dyadic) -> Option<Self> {
        Superaccumulator::from_dyadic(value, MIN_EXPONENT).map(|accumulator| Self { accumulator })
    }
}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(f, &self.to_dyadic())
    }
}

/// The exact sum of the squares of up to 2^63 doubles.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ExactSumOfSquares {
    accumulator: Superaccumulator<SQUARES_CHUNKS>,
}

impl ExactSumOfSquares {
    pub(crate) const ZERO: Self = Self {
        accumulator: Superaccumulator::ZERO,
    };

    /// Adds the squares of values that are all finite.
    pub(crate) fn add_finite(&mut self, values: &[f64]) {
        self.accumulator.add_terms(values, |chunks, value| {
            let (mantissa, position) = decompose(value);
            // The square of a 53-bit integer is exact in 106 bits; its position is twice that of the root.
            let (low, high) = mantissa.carrying_mul(mantissa, 0);
            let (chunk, shift) = ((2 * position / 32) as usize, 2 * position % 32);
            chunks[chunk] += (low << shift & CHUNK_MASK) as i64;
            chunks[chunk + 1] += (low >> (32 - shift) & CHUNK_MASK) as i64;
            // `low >> (64 - shift)` for a shift that may be 0.
            chunks[chunk + 2] += ((high << shift | low >> 1 >> (63 - shift)) & CHUNK_MASK) as i64;
            chunks[chunk + 3] += (high >> (32 - shift)) as i64;
        });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.accumulator.merge(&other.accumulator);
    }

    pub(crate) fn to_dyadic(&self) -> Dyadic {
        self.accumulator.to_dyadic(2 * MIN_EXPONENT)
    }

    pub(crate) fn from_dyadic(value: &Dyadic) -> Option<Self> {
        Superaccumulator::from_dyadic(value, 2 * MIN_EXPONENT).map(|accumulator| Self { accumulator })
    }
}

impl fmt::Debug for ExactSumOfSquares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(f, &self.to_dyadic())
    }
}

fn write_exact(f: &mut fmt::Formatter<'_>, value: &Dyadic) -> fmt::Result {
    write!(f, "{}·2^{}", value.mantissa(), value.exponent())
}
