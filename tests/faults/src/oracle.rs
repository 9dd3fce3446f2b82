//! Computes the expected statistics with exact integer arithmetic. Shares no code with the services.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::Signed;

const MANTISSA_BITS: u32 = 52;
const EXPONENT_MASK: u64 = 0x7ff;

/// The exact sums of values.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactSums {
    pub(crate) n: u64,
    /// In units of 2^-1074.
    sum: BigInt,
    /// In units of 2^-2148.
    squares: BigInt,
}

impl ExactSums {
    /// Adds a finite value.
    pub(crate) fn add(&mut self, value: f64) {
        let units = units(value);
        self.squares += &units * &units;
        self.sum += units;
        self.n += 1;
    }

    /// The double nearest to the exact mean.
    pub(crate) fn mean(&self) -> f64 {
        let twice = BigInt::from(2) * self.sum.abs();
        let nearest = nearest(|twice_units| (twice_units * self.n).cmp(&twice));
        if self.sum.is_negative() { -nearest } else { nearest }
    }

    /// The double nearest to the root of the exact sample variance; `None` for one value.
    pub(crate) fn stddev(&self) -> Option<f64> {
        if self.n < 2 {
            return None;
        }
        // (Σx² - (Σx)²/n) / (n - 1) = (n Σx² - (Σx)²) / (n (n - 1))
        let n = BigInt::from(self.n);
        let above = BigInt::from(4) * (&n * &self.squares - &self.sum * &self.sum);
        let below: BigInt = &n * (&n - 1);
        Some(nearest(|twice_units| (twice_units.pow(2) * &below).cmp(&above)))
    }
}

/// The value in units of 2^-1074, which every finite double is a whole number of.
fn units(value: f64) -> BigInt {
    let bits = value.to_bits();
    let fraction = bits & ((1 << MANTISSA_BITS) - 1);
    let exponent = bits >> MANTISSA_BITS & EXPONENT_MASK;
    assert!(exponent != EXPONENT_MASK, "a value is not finite");
    let magnitude = if exponent == 0 {
        BigInt::from(fraction)
    } else {
        BigInt::from(fraction | 1 << MANTISSA_BITS) << (exponent - 1)
    };
    if value.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    }
}

/// The double nearest to a number that is not negative, ties to even. `compare` compares half of its argument, in units,
/// with the number.
fn nearest(compare: impl Fn(&BigInt) -> Ordering) -> f64 {
    // The bits of doubles that are not negative are in the order of the doubles.
    let (mut low, mut high) = (0.0_f64.to_bits(), f64::MAX.to_bits());
    while high - low > 1 {
        let middle = low.midpoint(high);
        if compare(&(units(f64::from_bits(middle)) * 2)).is_le() {
            low = middle;
        } else {
            high = middle;
        }
    }
    let halfway = units(f64::from_bits(low)) + units(f64::from_bits(high));
    let is_high = match compare(&halfway) {
        Ordering::Less => true,
        Ordering::Equal => high % 2 == 0,
        Ordering::Greater => false,
    };
    f64::from_bits(if is_high { high } else { low })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> ExactSums {
        let mut exact = ExactSums::default();
        values.iter().for_each(|value| exact.add(*value));
        exact
    }

    #[test]
    fn it_does_what_floating_point_does_not() {
        let values = [0.1, 0.2, 0.3, 1e16, -1e16];
        assert_eq!(of(&values).mean(), 0.12);
        assert_ne!(values.iter().sum::<f64>() / 5.0, 0.12);
    }

    #[test]
    fn it_agrees_with_arithmetic_that_is_exact_anyway() {
        let exact = of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((exact.n, exact.mean()), (4, 2.5));
        assert_eq!(exact.stddev(), Some((5.0_f64 / 3.0).sqrt()));
        assert_eq!(of(&[-0.25, 0.25]).mean(), 0.0);
        assert_eq!(of(&[-0.1, -0.1, -0.1]).mean(), -0.1);
        assert_eq!(of(&[f64::MIN_POSITIVE / 4.0]).mean(), f64::MIN_POSITIVE / 4.0);
    }
}
