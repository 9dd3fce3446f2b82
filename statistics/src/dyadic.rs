//! Exact values `mantissa · 2^exponent`, the form in which every finite double and every sum of doubles and
//! of their squares can be written, and the single rounding that leads back to a double.

use std::ops::{Mul, Sub};

use num_bigint::{BigInt, BigUint, Sign};

const MANTISSA_BITS: i64 = f64::MANTISSA_DIGITS as i64;
/// Exponent of the smallest subnormal.
pub(crate) const MIN_EXPONENT: i64 = -1074;
/// Exponent of the last bit of the largest finite double.
const MAX_EXPONENT: i64 = 971;
const IMPLICIT_BIT: u64 = 1 << 52;

/// The integer mantissa and the position of its lowest bit above the smallest subnormal:
/// `|value| = mantissa · 2^(position − 1074)`, with mantissa < 2^53 and position ≤ 2045.
#[inline]
pub(crate) fn decompose(value: f64) -> (u64, u32) {
    let bits = value.to_bits();
    let biased_exponent = (bits >> 52 & 0x7ff) as u32;
    let fraction = bits & (IMPLICIT_BIT - 1);
    let implicit = u64::from(biased_exponent != 0) << 52;
    (fraction | implicit, biased_exponent.max(1) - 1)
}

/// `mantissa · 2^exponent` with an odd mantissa, or zero with exponent 0: one form per value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dyadic {
    mantissa: BigInt,
    exponent: i64,
}

impl Dyadic {
    pub(crate) fn new(mantissa: BigInt, exponent: i64) -> Self {
        match mantissa.trailing_zeros() {
            None => Self {
                mantissa,
                exponent: 0,
            },
            Some(0) => Self { mantissa, exponent },
            Some(zeros) => Self {
                mantissa: mantissa >> zeros,
                exponent: exponent + zeros as i64,
            },
        }
    }

    /// `value` must be finite.
    pub(crate) fn from_f64(value: f64) -> Self {
        let (mantissa, position) = decompose(value);
        let sign = if value.is_sign_negative() {
            Sign::Minus
        } else {
            Sign::Plus
        };
        Self::new(
            BigInt::from_biguint(sign, BigUint::from(mantissa)),
            MIN_EXPONENT + i64::from(position),
        )
    }

    pub(crate) fn mantissa(&self) -> &BigInt {
        &self.mantissa
    }

    pub(crate) fn exponent(&self) -> i64 {
        self.exponent
    }

    /// The mantissa that goes with a lower exponent.
    fn mantissa_at(&self, exponent: i64) -> BigInt {
        &self.mantissa << (self.exponent - exponent)
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    pub(crate) fn times(&self, factor: u64) -> Self {
        Self::new(&self.mantissa * factor, self.exponent)
    }

    /// The double nearest to `self / divisor`, ties to even; `None` where it would be infinite.
    pub(crate) fn divide_rounded(&self, divisor: &BigUint) -> Option<f64> {
        // 66 bits are at least 12 more than a double holds.
        let quotient = Quotient::new(self.mantissa.magnitude(), divisor, 66, self.exponent)?;
        let magnitude = round(quotient.integer, quotient.exponent, quotient.inexact)?;
        Some(if self.is_negative() && magnitude != 0.0 {
            -magnitude
        } else {
            magnitude
        })
    }

    /// The double nearest to `√(self / divisor)`, ties to even; `None` for a negative value or an infinite result.
    pub(crate) fn divide_sqrt_rounded(&self, divisor: &BigUint) -> Option<f64> {
        if self.is_negative() {
            return None;
        }
        // The root of a number of 117 bits has 59, at least 5 more than a double holds.
        let quotient = Quotient::new(self.mantissa.magnitude(), divisor, 118, self.exponent)?;
        let root = quotient.integer.isqrt();
        round(
            root,
            quotient.exponent / 2,
            quotient.inexact || root * root != quotient.integer,
        )
    }
}

/// `numerator · 2^exponent / divisor`, cut to an integer of a wanted size.
struct Quotient {
    integer: u128,
    /// Always even, so that a root can be taken.
    exponent: i64,
    inexact: bool,
}

impl Quotient {
    /// The integer has between `bits - 1` and `bits + 2` bits, or is zero for a zero numerator.
    /// `None` for a zero divisor.
    fn new(numerator: &BigUint, divisor: &BigUint, bits: i64, exponent: i64) -> Option<Self> {
        if divisor.bits() == 0 {
            return None;
        }
        let shift = bits + divisor.bits() as i64 - numerator.bits() as i64;
        let shift = shift + ((exponent - shift) & 1);
        let (numerator, divisor) = if shift >= 0 {
            (numerator << shift, divisor.clone())
        } else {
            (numerator.clone(), divisor << -shift)
        };
        let quotient = &numerator / &divisor;
        let inexact = &quotient * &divisor != numerator;
        let integer = quotient
            .to_u64_digits()
            .iter()
            .rev()
            .fold(0, |high, &digit| high << 64 | u128::from(digit));
        Some(Self {
            integer,
            exponent: exponent - shift,
            inexact,
        })
    }
}

/// The double nearest to `(integer + rest) · 2^exponent`, ties to even, where `0 ≤ rest < 1` and `inexact` says
/// whether there is a rest. `None` where the result would be infinite.
fn round(integer: u128, exponent: i64, inexact: bool) -> Option<f64> {
    if integer == 0 {
        return Some(0.0);
    }
    let bits = i64::from(u128::BITS - integer.leading_zeros());
    let unit = (exponent + bits - MANTISSA_BITS).max(MIN_EXPONENT);
    if unit > MAX_EXPONENT {
        return None;
    }
    let dropped = unit - exponent;
    let mantissa = match u32::try_from(dropped) {
        // Fewer bits than a double holds: callers ask for more than that of an inexact value.
        Err(_) => integer << dropped.unsigned_abs(),
        Ok(0) => integer,
        Ok(1..128) => {
            let floor = integer >> dropped;
            let rest = integer - (floor << dropped);
            let half = 1 << (dropped - 1);
            let up = rest > half || (rest == half && (inexact || floor & 1 == 1));
            floor + u128::from(up)
        }
        Ok(_) => 0,
    };
    // The implicit bit of the mantissa raises the exponent field by one, which also makes a mantissa that was
    // rounded up to 2^53 come out right.
    let exponent_field = (unit - MIN_EXPONENT).unsigned_abs() << 52;
    let value = f64::from_bits(exponent_field + u64::try_from(mantissa).ok()?);
    value.is_finite().then_some(value)
}

impl Sub for &Dyadic {
    type Output = Dyadic;

    fn sub(self, other: &Dyadic) -> Dyadic {
        let exponent = self.exponent.min(other.exponent);
        Dyadic::new(self.mantissa_at(exponent) - other.mantissa_at(exponent), exponent)
    }
}

impl Mul for &Dyadic {
    type Output = Dyadic;

    fn mul(self, other: &Dyadic) -> Dyadic {
        Dyadic::new(&self.mantissa * &other.mantissa, self.exponent + other.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: f64 = f64::from_bits(1);

    fn divide(numerator: f64, divisor: u64) -> Option<f64> {
        Dyadic::from_f64(numerator).divide_rounded(&BigUint::from(divisor))
    }

    #[test]
    fn doubles_come_back_as_they_went() {
        for value in [
            0.0,
            1.0,
            -0.1,
            1e308,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            SMALLEST,
            -3.0 * SMALLEST,
        ] {
            assert_eq!(divide(value, 1), Some(value));
        }
    }

    #[test]
    fn a_quotient_of_doubles_is_that_of_the_processor() {
        for (numerator, divisor) in [(1.0, 3), (2.0, 7), (1e308, 10), (1e-308, 1000), (-0.1, 1 << 40)] {
            assert_eq!(divide(numerator, divisor), Some(numerator / divisor as f64));
        }
    }

    #[test]
    fn ties_go_to_even_among_subnormals_too() {
        assert_eq!(divide(SMALLEST, 2), Some(0.0));
        assert_eq!(divide(3.0 * SMALLEST, 2), Some(2.0 * SMALLEST));
        assert_eq!(divide(5.0 * SMALLEST, 2), Some(2.0 * SMALLEST));
        assert_eq!(round((1 << 54) + 2, 0, false), Some((1u64 << 54) as f64));
        assert_eq!(round((1 << 54) + 2, 0, true), Some(((1u64 << 54) + 4) as f64));
        assert_eq!(round((1 << 54) + 6, 0, false), Some(((1u64 << 54) + 8) as f64));
    }

    #[test]
    fn what_underflows_is_positive_zero() {
        let bits = divide(-SMALLEST, 1000).map(f64::to_bits);
        assert_eq!(bits, Some(0.0_f64.to_bits()));
        assert_eq!(round(1, -3000, true), Some(0.0));
    }

    #[test]
    fn the_largest_double_is_reached_by_rounding_down_only() {
        // MAX is (2^53 − 1) · 2^971; the next step would be 2^1024.
        let below_half = (1u128 << 55) - 3;
        assert_eq!(round(below_half, 969, true), Some(f64::MAX));
        assert_eq!(round(below_half + 1, 969, false), None);
        assert_eq!(round(1, 1024, false), None);
    }

    #[test]
    fn division_by_zero_has_no_result() {
        assert_eq!(divide(1.0, 0), None);
    }

    #[test]
    fn roots_are_rounded_once() {
        for value in [2.0, 0.1, 1e300, 4.0, SMALLEST, f64::MAX] {
            let root = Dyadic::from_f64(value).divide_sqrt_rounded(&BigUint::from(1u8));
            assert_eq!(root, Some(value.sqrt()), "√{value}");
        }
        assert_eq!(
            Dyadic::from_f64(-1.0).divide_sqrt_rounded(&BigUint::from(1u8)),
            None
        );
    }

    #[test]
    fn a_root_just_above_a_tie_is_not_a_tie() {
        let tie = (1u64 << 53) + 1;
        let root = |square: BigInt| Dyadic::new(square, 0).divide_sqrt_rounded(&BigUint::from(1u8));
        assert_eq!(root(BigInt::from(tie) * tie), Some((tie - 1) as f64));
        assert_eq!(root(BigInt::from(tie) * tie + 1), Some((tie + 1) as f64));
        assert_eq!(root(BigInt::from(tie) * tie - 1), Some((tie - 1) as f64));
    }
}
