//! The quantile of Student's t that a 95 % confidence interval needs.

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

/// The 0.975 quantile of the normal distribution.
const Z_975: f64 = 1.959_963_984_540_054_3;

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
pub(crate) fn t_975(degrees: u64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::t_975;

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
}
