use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Invalid, MetricId, invalid::short_text_type};

short_text_type!(
    /// A metric's canonical title, such as `ttft`: 1 to 200 characters, lower case whatever was given.
    MetricTitle,
    "metric",
    str::to_lowercase
);
short_text_type!(
    /// A unit, such as `s` or `tokens/s`.
    Unit,
    "unit",
    str::to_owned
);

impl MetricTitle {
    /// The title as one word of an AMQP routing key.
    #[must_use]
    pub fn slug(&self) -> String {
        crate::llm::slug(self.as_str())
    }
}

/// Which way a metric is better, and so which way it is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Smaller values are better (latencies): ranked ascending.
    Lower,
    /// Larger values are better (throughputs): ranked descending.
    Higher,
}

impl Direction {
    /// The name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

impl std::str::FromStr for Direction {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "lower" => Ok(Self::Lower),
            "higher" => Ok(Self::Higher),
            other => Err(Invalid::new("better", other, "lower or higher")),
        }
    }
}

/// The range that a metric's simulated values are drawn from: finite, lower < upper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    lower: f64,
    upper: f64,
}

impl Bounds {
    /// Checks that both are finite and that lower < upper.
    ///
    /// # Errors
    /// Says which bound was refused.
    pub fn new(lower: f64, upper: f64) -> Result<Self, Invalid> {
        for (field, bound) in [("lower_bound", lower), ("upper_bound", upper)] {
            if !bound.is_finite() {
                return Err(Invalid::new(field, bound, "a finite number"));
            }
        }
        if lower >= upper {
            return Err(Invalid::new(
                "lower_bound",
                lower,
                format!("less than upper_bound ({upper})"),
            ));
        }
        if !(upper - lower).is_finite() {
            return Err(Invalid::new(
                "upper_bound",
                upper,
                "a range that a double can hold",
            ));
        }
        Ok(Self { lower, upper })
    }

    /// The lower bound.
    #[must_use]
    pub fn lower(self) -> f64 {
        self.lower
    }

    /// The upper bound.
    #[must_use]
    pub fn upper(self) -> f64 {
        self.upper
    }

    /// upper − lower.
    #[must_use]
    pub fn width(self) -> f64 {
        self.upper - self.lower
    }
}

/// A metric of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its row.
    pub id: MetricId,
    /// Its canonical title, unique.
    pub title: MetricTitle,
    /// The unit of its values.
    pub unit: Unit,
    /// The range of its simulated values.
    pub bounds: Bounds,
    /// Which way it is ranked.
    pub better: Direction,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
}

/// A metric to register.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMetric {
    /// Its canonical title, unique.
    pub title: MetricTitle,
    /// The unit of its values.
    pub unit: Unit,
    /// The range of its simulated values.
    pub bounds: Bounds,
    /// Which way it is ranked.
    pub better: Direction,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_case_insensitive() {
        assert_eq!(
            MetricTitle::new("TTFT").unwrap(),
            MetricTitle::new(" ttft ").unwrap()
        );
    }

    #[test]
    fn a_title_that_is_accepted_can_be_read_again() {
        // Lower case makes two characters of each.
        MetricTitle::new(&"İ".repeat(101)).unwrap_err();
        let title = MetricTitle::new(&"İ".repeat(100)).unwrap();
        assert_eq!(MetricTitle::new(title.as_str()), Ok(title));
    }

    #[test]
    fn bounds_are_finite_and_ordered() {
        assert!(Bounds::new(0.05, 2.0).is_ok());
        for (lower, upper) in [
            (f64::NAN, 1.0),
            (0.0, f64::INFINITY),
            (1.0, 1.0),
            (2.0, 1.0),
            (-1.7e308, 1.7e308),
        ] {
            assert!(Bounds::new(lower, upper).is_err(), "{lower}..{upper}");
        }
    }
}
