//! Probabilities and quantiles of Student's t, the normal and the binomial distribution.

use statrs::function::{beta::beta_reg, erf::erfc};

/// The 0.975 quantile of the normal distribution.
pub const Z_975: f64 = 1.959_963_984_540_054_3;

/// The probability that a value of the standard normal distribution is at least this far from 0, on either side.
#[must_use]
pub fn normal_two_sided(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The probability that a value of Student's t with `degrees` > 0 degrees of freedom is at least as far from 0 as t, on
/// either side, given t²: the regularised incomplete beta function at ν/(ν + t²) (Abramowitz and Stegun, Handbook of
/// Mathematical Functions, 26.7.1).
#[must_use]
pub fn student_t_two_sided(t_squared: f64, degrees: f64) -> f64 {
    beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t_squared))
}

/// 0.975 quantiles of Student's t for 1 to 30 degrees of freedom: roots of its distribution function
/// (regularised incomplete beta function) found with 40 digits, rounded to doubles.
const T_975: [f64; 30] = [
    12.706_204_736_174_705,
    4.302_652_729_749_464,
    3.182_446_305_283_709_5,
    2.776_445_105_197_794_3,
    2.570_581_835_636_315_5,
    2.446_911_851_144_97,
    2.364_624_251_592_785_3,
    2.306_004_135_204_166_7,
    2.262_157_162_798_205_3,
    2.228_138_851_986_275,
    2.200_985_160_091_639_7,
    2.178_812_829_667_229,
    2.160_368_656_462_792_6,
    2.144_786_687_917_804,
    2.131_449_545_559_775_5,
    2.119_905_299_221_254_6,
    2.109_815_577_833_317,
    2.100_922_040_241_038_7,
    2.093_024_054_408_309_6,
    2.085_963_447_265_865,
    2.079_613_844_727_680_4,
    2.073_873_067_904_026_3,
    2.068_657_610_419_048_6,
    2.063_898_561_628_026,
    2.059_538_552_553_297_7,
    2.055_529_438_642_873,
    2.051_830_516_480_285_5,
    2.048_407_141_795_245,
    2.045_229_642_132_704_3,
    2.042_272_456_301_238,
];

/// Coefficients of the powers of `1/ν` in the expansion around [`Z_975`]: Abramowitz and Stegun, Handbook of
/// Mathematical Functions, 26.7.5, evaluated at that point.
const CORNISH_FISHER: [f64; 4] = [
    2.372_271_230_298_563,
    2.822_498_615_739_611_7,
    2.555_849_679_507_723_2,
    1.589_534_053_393_823_6,
];

/// The 0.975 quantile of Student's t with `degrees` ≥ 1 degrees of freedom.
///
/// Relative error: one rounding up to 30 degrees, below 1.3e-8 from 31 on, falling with the fifth power; the
/// limit is the normal distribution. Only additions, multiplications and divisions: equal on every platform.
#[must_use]
pub fn t_975(degrees: u64) -> f64 {
    let tabulated = degrees
        .checked_sub(1)
        .and_then(|index| T_975.get(usize::try_from(index).ok()?));
    tabulated.copied().unwrap_or_else(|| {
        let inverse = 1.0 / degrees as f64;
        let correction = CORNISH_FISHER
            .iter()
            .rev()
            .fold(0.0, |sum, g| (sum + g) * inverse);
        Z_975 + correction
    })
}

/// Weights this much below the mode's add nothing to a sum of doubles.
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
/// From the mode outwards by the ratio of neighbours: no factorials, no logarithms, and the sum makes them probabilities.
/// Some twenty standard deviations are left: 4·10^5 weights for 10^9 values.
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

    /// The probability that |T| ≤ t: the finite trigonometric series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    fn coverage(t: f64, degrees: u64) -> f64 {
        let theta = (t / (degrees as f64).sqrt()).atan();
        let (sin, cos) = theta.sin_cos();
        let odd = degrees % 2 == 1;
        let mut term = if odd { cos } else { 1.0 };
        let mut series = if degrees == 1 { 0.0 } else { term };
        let mut k = if odd { 3.0 } else { 2.0 };
        while k < degrees as f64 - 1.0 {
            term *= cos * cos * (k - 1.0) / k;
            series += term;
            k += 2.0;
        }
        if odd {
            std::f64::consts::FRAC_2_PI * (theta + sin * series)
        } else {
            sin * series
        }
    }

    #[test]
    fn covers_95_percent_for_every_number_of_degrees() {
        for degrees in (1..=30).chain([31, 32, 33, 50, 64, 99, 500, 1001, 10_000]) {
            let covered = coverage(t_975(degrees), degrees);
            assert!(
                (covered - 0.95).abs() < 4e-9,
                "{degrees} degrees of freedom cover {covered}"
            );
        }
    }

    #[test]
    fn becomes_the_normal_quantile() {
        assert_eq!(t_975(u64::MAX), 1.959_963_984_540_054_2);
    }

    #[test]
    fn probabilities_of_the_quantiles() {
        for degrees in [1, 2, 10, 30, 1000, 10_000_000] {
            let p = student_t_two_sided(t_975(degrees).powi(2), degrees as f64);
            assert!((p / 0.05 - 1.0).abs() < 1e-7, "{degrees} degrees of freedom: {p}");
        }
        // One degree of freedom is Cauchy's distribution: P(|T| ≥ 1) = 1/2.
        assert!((student_t_two_sided(1.0, 1.0) - 0.5).abs() < 1e-12);
        assert_eq!(student_t_two_sided(0.0, 5.0), 1.0);
        // Welch's test of two samples with equal errors: P(|T| ≥ 2) with 6 degrees of freedom.
        let p = student_t_two_sided(4.0, 6.0);
        assert!((p / 0.092_426_311_7 - 1.0).abs() < 1e-8, "{p}");
        assert!((normal_two_sided(-Z_975) - 0.05).abs() < 1e-10);
        assert!(normal_two_sided(30.0) > 0.0);
    }

    /// P(l ≤ B < u) with exact binomial coefficients.
    fn binomial_coverage(n: u32, p: f64, (lower, upper): (u64, u64)) -> f64 {
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
            assert!(binomial_coverage(n, 0.5, (lower, upper)) >= 0.95, "n = {n}");
            assert!(
                binomial_coverage(n, 0.5, (lower + 1, upper - 1)) < 0.95,
                "n = {n}"
            );
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
