//! Axes: the positions of values on a plot, and which values are labelled.

/// The axis is logarithmic where the largest value is at least this many times the smallest.
const LOG_FROM: f64 = 10.0;

/// The upper end of an axis without values; the lower end is 0.
const EMPTY_HIGH: f64 = 1.0;

/// One axis of a plot: a range of values, and the range of the drawing's units that it covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Linear, from zero to `high`.
    pub(super) fn from_zero(high: f64) -> Self {
        Self::new(false, 0.0, if high > 0.0 { high } else { EMPTY_HIGH })
    }

    /// From the smallest to the largest value; logarithmic where the range asks for it.
    pub(super) fn around(low: f64, high: f64) -> Self {
        if low > 0.0 && high / low >= LOG_FROM {
            return Self::new(true, low, high);
        }
        if high > low {
            return Self::new(false, low, high);
        }
        let margin = if low == 0.0 { EMPTY_HIGH } else { low.abs() / 10.0 };
        Self::new(false, low - margin, low + margin)
    }

    fn new(is_log: bool, low: f64, high: f64) -> Self {
        Self {
            is_log,
            low,
            high,
            from: 0.0,
            to: 1.0,
        }
    }

    /// This axis with both ends moved outwards to round values.
    pub(super) fn rounded(self) -> Self {
        let (low, high) = if self.is_log {
            let decade = |value: f64| 10_f64.powf(value.log10().floor());
            let (below, above) = (decade(self.low), decade(self.high));
            (
                below * (self.low / below).floor(),
                above * (self.high / above).ceil(),
            )
        } else {
            let step = round_step((self.high - self.low) / 4.0);
            ((self.low / step).floor() * step, (self.high / step).ceil() * step)
        };
        Self { low, high, ..self }
    }

    /// This axis between two positions of the drawing.
    pub(super) fn between(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// Whether it is logarithmic.
    pub(super) fn is_log(&self) -> bool {
        self.is_log
    }

    /// How far along the axis a value lies: 0 at its low end, 1 at its high end.
    pub(super) fn share(&self, value: f64) -> f64 {
        if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The value that lies at `share` of the axis.
    pub(super) fn value(&self, share: f64) -> f64 {
        if self.is_log {
            self.low * (self.high / self.low).powf(share)
        } else {
            self.low + share * (self.high - self.low)
        }
    }

    /// The position of a value in the drawing; values outside of the axis are at its end.
    pub(super) fn position(&self, value: f64) -> f64 {
        self.from + self.share(value).clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values within the range, some four to eight of them.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            return self.log_ticks();
        }
        let step = round_step((self.high - self.low) / 6.0);
        let first = (self.low / step - 1e-9).ceil();
        (0..=8)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-6)
            .collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let (digits, every): (&[f64], f64) = match decades {
            few if few <= 2.0 => (&[1.0, 2.0, 5.0], 1.0),
            few if few <= 3.5 => (&[1.0, 3.0], 1.0),
            some if some <= 7.0 => (&[1.0], 1.0),
            many => (&[1.0], (many / 6.0).ceil()),
        };
        let first = self.low.log10().floor();
        (0..=8)
            .map(|n| 10_f64.powf(first + f64::from(n) * every))
            .flat_map(|decade| digits.iter().map(move |digit| digit * decade))
            .filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick))
            .collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `least`.
pub(super) fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    let digit = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|digit| digit * decade >= least * 0.999_999);
    digit.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis) -> Vec<String> {
        axis.ticks().iter().map(|tick| format!("{tick:.3}")).collect()
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(1.0, 1.0), (1.1, 2.0), (0.03, 0.05), (7.0, 10.0), (450.0, 500.0)] {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn a_wide_range_is_logarithmic_and_a_narrow_one_is_not() {
        assert!(Axis::around(0.1, 1.0).is_log());
        assert!(!Axis::around(0.2, 1.0).is_log());
        assert!(!Axis::around(0.0, 1.0).is_log());
    }

    #[test]
    fn ticks_are_round_values_within() {
        assert_eq!(
            texts(Axis::from_zero(1.0)),
            ["0.000", "0.200", "0.400", "0.600", "0.800", "1.000"]
        );
        assert_eq!(
            texts(Axis::around(0.21, 0.29)),
            ["0.220", "0.240", "0.260", "0.280"]
        );
        assert_eq!(
            texts(Axis::around(0.04, 1.2)),
            ["0.050", "0.100", "0.200", "0.500", "1.000"]
        );
        assert_eq!(texts(Axis::around(0.01, 100.0)).len(), 5);
        assert!(texts(Axis::around(1e-9, 3600.0)).len() <= 8);
    }

    #[test]
    fn positions_and_values_are_inverse_and_stay_on_the_plot() {
        for axis in [
            Axis::from_zero(3.0),
            Axis::around(0.01, 10.0),
            Axis::around(5.0, 5.0),
        ] {
            let axis = axis.rounded().between(10.0, 110.0);
            for share in [0.0, 0.3, 1.0] {
                let back = axis.share(axis.value(share));
                assert!((back - share).abs() < 1e-9, "{axis:?}");
            }
            assert!((axis.position(f64::MAX) - 110.0).abs() < 1e-9);
            assert!((axis.position(-1e9) - 10.0).abs() < 1e-9);
        }
    }

    #[test]
    fn rounding_keeps_all_values_within() {
        for (low, high) in [(0.213, 0.287), (0.037, 1.21), (0.0, 0.0), (3.0, 3.0)] {
            let axis = Axis::around(low, high).rounded();
            assert!(
                (0.0..=1.0).contains(&axis.share(low)) && (0.0..=1.0).contains(&axis.share(high)),
                "{axis:?}"
            );
        }
    }
}
