//! What is right: textbook formulas in exact rational numbers, and what "correctly rounded" means.

use std::cmp::Ordering;

use num_rational::BigRational;

pub(crate) fn exact(value: f64) -> BigRational {
    BigRational::from_float(value).expect("the value is finite")
}

fn integer(value: usize) -> BigRational {
    BigRational::from_integer(value.into())
}

pub(crate) fn sum(values: &[f64]) -> BigRational {
    values.iter().map(|&value| exact(value)).sum()
}

/// `values` must not be empty.
pub(crate) fn mean(values: &[f64]) -> BigRational {
    sum(values) / integer(values.len())
}

/// From the definition, in two passes; at least two values.
pub(crate) fn variance(values: &[f64]) -> BigRational {
    let mean = mean(values);
    let squares: BigRational = values.iter().map(|&value| (exact(value) - &mean).pow(2)).sum();
    squares / integer(values.len() - 1)
}

/// `actual` is the double nearest to `expected`, the even one of two; none where that would be infinite.
pub(crate) fn assert_rounded(actual: Option<f64>, expected: &BigRational) {
    assert_between_midpoints(actual, |bound| bound.cmp(expected));
}

/// `actual` is the double nearest to the root of `expected`.
pub(crate) fn assert_rounded_root(actual: Option<f64>, expected: &BigRational) {
    let zero = integer(0);
    assert_between_midpoints(actual, |bound| {
        if *bound < zero {
            Ordering::Less
        } else {
            bound.pow(2).cmp(expected)
        }
    });
}

/// `compare` says how a number lies to the exact result.
fn assert_between_midpoints(actual: Option<f64>, compare: impl Fn(&BigRational) -> Ordering) {
    let overflow = half_a_step_beyond(f64::MAX);
    let Some(actual) = actual else {
        let beyond = compare(&overflow).is_le() || compare(&-overflow).is_ge();
        assert!(beyond, "there is no result, and yet a double is near enough");
        return;
    };
    assert!(actual.is_finite());
    let even = actual.to_bits() & 1 == 0;
    let (below, above) = (
        compare(&midpoint(actual, actual.next_down())),
        compare(&midpoint(actual, actual.next_up())),
    );
    assert!(
        below.is_lt() || (even && below.is_eq()),
        "{actual:e} is too large"
    );
    assert!(
        above.is_gt() || (even && above.is_eq()),
        "{actual:e} is too small"
    );
}

/// Half way from `value` to its neighbour; beyond the largest double, where the neighbour would be.
fn midpoint(value: f64, neighbour: f64) -> BigRational {
    if neighbour.is_infinite() {
        return half_a_step_beyond(value);
    }
    (exact(value) + exact(neighbour)) / integer(2)
}

/// Half a step outwards from the largest double of either sign.
fn half_a_step_beyond(largest: f64) -> BigRational {
    let inner = largest.signum() * f64::MAX.next_down();
    exact(largest) + (exact(largest) - exact(inner)) / integer(2)
}
