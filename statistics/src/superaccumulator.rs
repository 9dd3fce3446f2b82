//! A fixed-point number wide enough for every sum of its terms, so that no addition ever rounds.
//!
//! After R. M. Neal, "Fast exact summation using small and large superaccumulators" (arXiv:1505.05571), the
//! small variant: signed 64-bit chunks that overlap, each with a weight of 32 bits more than the one before.
//! A term is added to the few chunks that it touches without carrying; carries run once per block of terms.

use num_bigint::{BigInt, BigUint, Sign};

use crate::dyadic::Dyadic;

const CHUNK_BITS: u32 = 32;
const CHUNK_MASK: i64 = u32::MAX as i64;
const DIGIT_MASK: u64 = u32::MAX as u64;

/// Terms that may be added between two carries. Terms add less than 2^52 to a chunk, and a chunk starts
/// below 2^32, so that 1024 of them stay below 2^63.
pub(crate) const TERMS_PER_CARRY: usize = 1024;

/// The integer `Σ chunks[i] · 2^(32 i)`; the owner knows the weight of its unit.
///
/// The owner's terms and their number must keep it below `2^(32 CHUNKS − 1)` in magnitude.
///
/// Between calls the form is canonical: every chunk but the last lies in `0..2^32`, the last carries the sign.
/// One value has one form, which makes the derived equality exact.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Superaccumulator<const CHUNKS: usize> {
    chunks: [i64; CHUNKS],
}

impl<const CHUNKS: usize> Superaccumulator<CHUNKS> {
    pub(crate) const ZERO: Self = Self { chunks: [0; CHUNKS] };

    /// Adds what `term` adds to the chunks for every value, and restores the canonical form.
    ///
    /// `term` may add less than 2^52 in magnitude to each chunk, and nothing to the last one.
    #[inline]
    pub(crate) fn add_terms(&mut self, values: &[f64], term: impl Fn(&mut [i64; CHUNKS], f64)) {
        for block in values.chunks(TERMS_PER_CARRY) {
            for &value in block {
                term(&mut self.chunks, value);
            }
            self.carry();
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (chunk, added) in self.chunks.iter_mut().zip(&other.chunks) {
            *chunk += added;
        }
        self.carry();
    }

    fn carry(&mut self) {
        let mut carry = 0;
        for chunk in &mut self.chunks[..CHUNKS - 1] {
            let total = *chunk + carry;
            *chunk = total & CHUNK_MASK;
            carry = total >> CHUNK_BITS;
        }
        self.chunks[CHUNKS - 1] += carry;
    }

    fn is_negative(&self) -> bool {
        self.chunks[CHUNKS - 1] < 0
    }

    fn negate(&mut self) {
        for chunk in &mut self.chunks {
            *chunk = -*chunk;
        }
        self.carry();
    }

    /// The value times `2^unit_exponent`.
    pub(crate) fn to_dyadic(&self, unit_exponent: i64) -> Dyadic {
        let negative = self.is_negative();
        let mut absolute = self.clone();
        if negative {
            absolute.negate();
        }
        let low_zeros = absolute.chunks.iter().take_while(|&&chunk| chunk == 0).count();
        let digits = absolute.chunks[low_zeros..]
            .iter()
            .map(|chunk| (chunk.cast_unsigned() & DIGIT_MASK) as u32)
            .collect();
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        let left_out = low_zeros as i64 * i64::from(CHUNK_BITS);
        Dyadic::new(
            BigInt::from_biguint(sign, BigUint::new(digits)),
            unit_exponent + left_out,
        )
    }

    /// The inverse of [`Self::to_dyadic`]: `None` where the value is no multiple of the unit or too wide.
    pub(crate) fn from_dyadic(value: &Dyadic, unit_exponent: i64) -> Option<Self> {
        let shift = u32::try_from(value.exponent() - unit_exponent).ok()?;
        let bits = value.mantissa().bits() + u64::from(shift);
        if bits >= u64::from(CHUNK_BITS) * CHUNKS as u64 {
            return None;
        }
        let mut accumulator = Self::ZERO;
        let digits = (value.mantissa().magnitude() << shift).to_u32_digits();
        for (chunk, digit) in accumulator.chunks.iter_mut().zip(digits) {
            *chunk = i64::from(digit);
        }
        if value.mantissa().sign() == Sign::Minus {
            accumulator.negate();
        }
        Some(accumulator)
    }
}
