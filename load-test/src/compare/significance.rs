//! Tests of significance: probabilities that a difference arises by chance.
//!
//! - Means: Welch's t test (B. L. Welch, Biometrika 34, 1947), which assumes independent values, but neither equal spreads nor, for
//!   large samples, a normal distribution.
//! - Percentiles: their standard errors are taken from their order-statistic confidence intervals, and the difference over its
//!   standard error is normal (R. M. Price and D. G. Bonett, Statistical Methods in Medical Research 11, 2002).
//! - Shares: Fisher's exact test.
//! - Several together: S. Holm, Scandinavian Journal of Statistics 6, 1979.

use statrs::{
    distribution::{ContinuousCDF, Normal},
    function::{beta::beta_reg, erf::erfc, factorial::ln_binomial},
};

/// A percentile with its 95 % confidence interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) ci95: (f64, f64),
}

/// Welch's two-sided test of two samples given as (n, mean, standard deviation); `None` where one has fewer than two values.
pub(super) fn welch(
    (n_a, mean_a, stddev_a): (u64, f64, f64),
    (n_b, mean_b, stddev_b): (u64, f64, f64),
) -> Option<f64> {
    if n_a < 2 || n_b < 2 {
        return None;
    }
    let (n_a, n_b) = (n_a as f64, n_b as f64);
    let (error_a, error_b) = (stddev_a * stddev_a / n_a, stddev_b * stddev_b / n_b);
    let error = error_a + error_b;
    if error == 0.0 {
        return Some(certain(mean_a, mean_b));
    }
    let t_squared = (mean_a - mean_b).powi(2) / error;
    // Welch and Satterthwaite's degrees of freedom, from shares so that small errors do not vanish when squared.
    let (share_a, share_b) = (error_a / error, error_b / error);
    let degrees = 1.0 / (share_a * share_a / (n_a - 1.0) + share_b * share_b / (n_b - 1.0));
    Some(student_t_two_sided(t_squared, degrees))
}

/// The two-sided test of two percentiles.
pub(super) fn two_estimates(a: Estimate, b: Estimate) -> f64 {
    let width_in_errors = 2.0 * z_975();
    let variance = |estimate: Estimate| ((estimate.ci95.1 - estimate.ci95.0) / width_in_errors).powi(2);
    let error = variance(a) + variance(b);
    if error == 0.0 {
        return certain(a.value, b.value);
    }
    erfc((a.value - b.value).abs() / (2.0 * error).sqrt())
}

/// The 0.975 quantile of the standard normal distribution.
fn z_975() -> f64 {
    Normal::standard().inverse_cdf(0.975)
}

/// The probability for values without any spread: they are equal or they differ.
fn certain(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { 0.0 }
}

/// P(|T| ≥ t) with the given degrees of freedom: the regularised incomplete beta function at ν/(ν + t²) (NIST Digital Library of
/// Mathematical Functions, 8.17 and Abramowitz and Stegun, 26.7.1).
fn student_t_two_sided(t_squared: f64, degrees: f64) -> f64 {
    beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t_squared))
}

/// Fisher's exact test of two shares, two-sided: the sum of the probabilities of all tables with the same margins that are not
/// more probable than this one.
pub(super) fn fisher_exact((part_a, whole_a): (u64, u64), (part_b, whole_b): (u64, u64)) -> f64 {
    /// Equally probable tables differ in their last digits.
    const ROUNDING: f64 = 1e-7;
    let parts = part_a + part_b;
    let total = ln_binomial(whole_a + whole_b, parts);
    let probability = |k: u64| (ln_binomial(whole_a, k) + ln_binomial(whole_b, parts - k) - total).exp();
    let observed = probability(part_a);
    let tables = parts.saturating_sub(whole_b)..=parts.min(whole_a);
    let as_rare: f64 = tables
        .map(probability)
        .filter(|probability| *probability <= observed * (1.0 + ROUNDING))
        .sum();
    as_rare.min(1.0)
}

/// Holm's correction of the given probabilities: the smallest times their number, the next times one less, and so on, none below its
/// predecessor.
pub(super) fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..p_values.len())
        .filter(|index| p_values[*index].is_some())
        .collect();
    order.sort_by(|a, b| f64::total_cmp(&p_values[*a].unwrap_or(1.0), &p_values[*b].unwrap_or(1.0)));
    let mut corrected = vec![None; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        let left = (order.len() - rank) as f64;
        largest = largest.max(p_values[*index].unwrap_or(1.0) * left).min(1.0);
        corrected[*index] = Some(largest);
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} {expected}");
    }

    #[test]
    fn t_probabilities_of_the_tables() {
        // 0.975 quantiles of Student's t.
        for (degrees, t) in [
            (1.0, 12.706_204_736_174_7),
            (2.0, 4.302_652_729_749_46),
            (10.0, 2.228_138_851_986_27),
            (30.0, 2.042_272_456_301_24),
            (1e7, 1.959_964_221_767_28),
        ] {
            close(student_t_two_sided(t * t, degrees), 0.05, 1e-7);
        }
        // One degree of freedom is Cauchy's distribution: P(|T| ≥ 1) = 1/2.
        close(student_t_two_sided(1.0, 1.0), 0.5, 1e-12);
        assert_eq!(student_t_two_sided(0.0, 5.0), 1.0);
    }

    #[test]
    fn welchs_test_of_two_samples() {
        // t² = 1 / (2/8) = 4 with equal errors: 6 degrees of freedom. P(|T| ≥ 2) = 0.092 426 311 7.
        let p = welch((4, 1.0, 0.5_f64.sqrt()), (4, 2.0, 0.5_f64.sqrt())).unwrap();
        close(p, 0.092_426_311_7, 1e-8);
        assert_eq!(welch((1, 1.0, 0.0), (50, 2.0, 0.1)), None);
        assert_eq!(welch((5, 1.0, 0.0), (5, 2.0, 0.0)), Some(0.0));
        assert_eq!(welch((5, 2.0, 0.0), (5, 2.0, 0.0)), Some(1.0));
    }

    #[test]
    fn two_percentiles_at_the_edge_of_significance() {
        // Standard errors of 3 and 4 make one of 5; a difference of 5 · 1.96 has a probability of 5 %.
        let estimate = |value: f64, error: f64| Estimate {
            value,
            ci95: (value - error * z_975(), value + error * z_975()),
        };
        close(
            two_estimates(estimate(100.0, 3.0), estimate(100.0 + 5.0 * z_975(), 4.0)),
            0.05,
            1e-9,
        );
    }

    #[test]
    fn fishers_lady_and_her_tea() {
        // Three of four cups right each way: 2 · (16 + 1)/70.
        close(fisher_exact((3, 4), (1, 4)), 34.0 / 70.0, 1e-9);
        close(fisher_exact((4, 4), (0, 4)), 2.0 / 70.0, 1e-9);
        assert_eq!(fisher_exact((10, 10), (20, 20)), 1.0);
        assert!(fisher_exact((100_000, 100_000), (99_900, 100_000)) < 1e-20);
    }

    #[test]
    fn holms_correction() {
        let corrected = holm(&[Some(0.04), None, Some(0.01), Some(0.03)]);
        let expected = [Some(0.06), None, Some(0.03), Some(0.06)];
        for (found, expected) in corrected.into_iter().zip(expected) {
            match (found, expected) {
                (Some(found), Some(expected)) => close(found, expected, 1e-12),
                (found, expected) => assert_eq!(found, expected),
            }
        }
        assert_eq!(holm(&[Some(0.7), Some(0.9)]), [Some(1.0), Some(1.0)]);
    }
}
