use num_rational::BigRational;

/// The mean of doubles as exact rational arithmetic gives it, rounded once to the nearest double.
pub(crate) fn exact_mean(values: &[f64]) -> f64 {
    let sum: BigRational = values
        .iter()
        .map(|value| BigRational::from_float(*value).unwrap())
        .sum();
    let mean = sum / BigRational::from_integer(values.len().into());
    nearest(&mean)
}

/// The double nearest to `exact`, ties to even. It compares the doubles around a first guess, because the conversion of
/// num-rational does not guarantee correct rounding.
fn nearest(exact: &BigRational) -> f64 {
    use num_traits::{Signed, ToPrimitive};
    let guess = exact.to_f64().unwrap();
    let distance = |candidate: f64| (BigRational::from_float(candidate).unwrap() - exact).abs();
    [guess.next_down(), guess, guess.next_up()]
        .into_iter()
        .min_by_key(|candidate| (distance(*candidate), candidate.to_bits() & 1))
        .unwrap()
}

#[test]
fn the_oracle_does_what_floating_point_does_not() {
    assert_eq!(exact_mean(&[0.1, 0.2, 0.3, 1e16, -1e16]), 0.12);
    // Exactly between two doubles: the even one is the upper.
    let odd = 1.0_f64.next_up();
    assert_eq!(exact_mean(&[odd, odd.next_up()]), odd.next_up());
    assert_ne!([0.1, 0.2, 0.3, 1e16, -1e16].iter().sum::<f64>() / 5.0, 0.12);
}
