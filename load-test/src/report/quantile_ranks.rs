//! Which order statistics enclose a percentile.
//!
//! Own sums of the binomial distribution, because the continued fraction of `statrs` stops after 141 terms and so is wrong for more
//! than some ten thousand values.

/// Weights below this share of the mode's do not change a sum of doubles.
const NEGLIGIBLE: f64 = 1e-22;

/// The ranks (from 1) of two order statistics that enclose the `p` quantile of a continuous distribution with a probability
/// of at least `confidence`, for `n` independent values; `None` where `n` values are too few.
///
/// The number of values below the quantile is binomial, B(n, p). The lower rank is the smallest `l` with
/// P(B ≤ l) > (1 − confidence)/2, the upper one is one more than the smallest `u` with P(B ≤ u) ≥ (1 + confidence)/2.
/// W. J. Conover, Practical Nonparametric Statistics, 3rd ed. (1999), section 3.2; G. J. Hahn and W. Q. Meeker,
/// Statistical Intervals (1991), section 5.2.
#[must_use]
pub fn ranks_around_quantile(n: u64, p: f64, confidence: f64) -> Option<(u64, u64)> {
    if n == 0 || !(p > 0.0 && p < 1.0) {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    let (first, weights) = weights(n, p);
    let total: f64 = weights.iter().sum();
    let (mut below, mut lower, mut upper) = (0.0, None, None);
    for (successes, weight) in (first..).zip(weights) {
        below += weight / total;
        if lower.is_none() && below > tail {
            lower = Some(successes);
        }
        if below >= 1.0 - tail {
            upper = Some(successes + 1);
            break;
        }
    }
    let (lower, upper) = (lower?, upper?);
    (lower >= 1 && upper <= n).then_some((lower, upper))
}

/// Weights in proportion to the probabilities of B(n, p), and the number of successes of the first of them.
///
/// They are computed from the mode outwards by the ratio of neighbours, without factorials and logarithms; divided by their sum they
/// are probabilities. They cover about twenty standard deviations: 4·10^5 weights for 10^9 values.
fn weights(n: u64, p: f64) -> (u64, Vec<f64>) {
    let odds = p / (1.0 - p);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 ≤ (n + 1)·p, and it is cut to n"
    )]
    let mode = (((n + 1) as f64 * p) as u64).min(n);
    let mut weights = vec![1.0];
    let mut first = mode;
    while first > 0 {
        // P(k − 1) / P(k) = k / ((n − k + 1)·odds)
        let weight = weights[weights.len() - 1] * first as f64 / ((n - first + 1) as f64 * odds);
        if weight < NEGLIGIBLE {
            break;
        }
        weights.push(weight);
        first -= 1;
    }
    weights.reverse();
    let mut last = mode;
    while last < n {
        // P(k + 1) / P(k) = (n − k)·odds / (k + 1)
        let weight = weights[weights.len() - 1] * (n - last) as f64 * odds / (last + 1) as f64;
        if weight < NEGLIGIBLE {
            break;
        }
        weights.push(weight);
        last += 1;
    }
    (first, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(l ≤ B < u) with exact binomial coefficients.
    fn coverage(n: u32, p: f64, (lower, upper): (u64, u64)) -> f64 {
        let mut coefficient = 1.0;
        let mut covered = 0.0;
        for k in 0..=n {
            if (lower..upper).contains(&u64::from(k)) {
                covered += coefficient * p.powf(f64::from(k)) * (1.0 - p).powf(f64::from(n - k));
            }
            coefficient *= f64::from(n - k) / f64::from(k + 1);
        }
        covered
    }

    #[test]
    fn ranks_of_published_tables() {
        // Hahn and Meeker, table for the median; n = 10: 2 and 9, n = 20: 6 and 15, n = 100: 40 and 61.
        assert_eq!(ranks_around_quantile(10, 0.5, 0.95), Some((2, 9)));
        assert_eq!(ranks_around_quantile(20, 0.5, 0.95), Some((6, 15)));
        assert_eq!(ranks_around_quantile(100, 0.5, 0.95), Some((40, 61)));
    }

    #[test]
    fn they_cover_at_least_what_was_asked_and_no_narrower_ones_do() {
        for n in 6..300 {
            let (lower, upper) = ranks_around_quantile(u64::from(n), 0.5, 0.95).unwrap();
            assert!(coverage(n, 0.5, (lower, upper)) >= 0.95, "n = {n}");
            assert!(coverage(n, 0.5, (lower + 1, upper - 1)) < 0.95, "n = {n}");
        }
    }

    #[test]
    fn too_few_values_enclose_nothing() {
        // (1/2)^n per side: six values are the fewest for the median; 0.99^n ≤ 0.025 from 368 on.
        assert_eq!(ranks_around_quantile(5, 0.5, 0.95), None);
        assert_eq!(ranks_around_quantile(6, 0.5, 0.95), Some((1, 6)));
        assert_eq!(ranks_around_quantile(367, 0.99, 0.95), None);
        assert!(ranks_around_quantile(368, 0.99, 0.95).is_some());
        assert_eq!(ranks_around_quantile(0, 0.5, 0.95), None);
    }

    #[test]
    fn a_hundred_million_values_follow_the_normal_approximation() {
        let (lower, upper) = ranks_around_quantile(100_000_000, 0.5, 0.95).unwrap();
        // 5·10^7 ± 1.96 · 5000
        assert!(
            lower.abs_diff(49_990_200) < 3 && upper.abs_diff(50_009_801) < 3,
            "{lower} {upper}"
        );
    }
}
