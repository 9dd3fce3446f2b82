use crate::Invalid;

/// The most values that one batch may hold.
pub const MAX_VALUES: usize = 100_000;

/// The values of a batch: 1 to [`MAX_VALUES`] finite doubles, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Values(Vec<f64>);

impl Values {
    /// Checks that there is at least one value, not too many, and that every one is finite.
    ///
    /// # Errors
    /// Names the first offender by its index.
    pub fn new(values: Vec<f64>) -> Result<Self, Invalid> {
        match values.len() {
            0 => return Err(Invalid::new("values", "an empty array", "at least one value")),
            n if n > MAX_VALUES => {
                return Err(Invalid::new(
                    "values",
                    format_args!("{n} values"),
                    format!("at most {MAX_VALUES} values"),
                ));
            }
            _ => {}
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Invalid::new(
                format!("values[{index}]"),
                values[index],
                "a finite number",
            )),
            None => Ok(Self(values)),
        }
    }

    /// The values.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// How many there are: at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "values are never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[f64]> for Values {
    fn as_ref(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offender_is_named() {
        let refused = |values| Values::new(values).unwrap_err().to_string();
        assert_eq!(
            refused(vec![]),
            "values: found an empty array, expected at least one value"
        );
        assert_eq!(
            refused(vec![1.0, f64::NAN]),
            "values[1]: found NaN, expected a finite number"
        );
        assert_eq!(
            refused(vec![f64::INFINITY]),
            "values[0]: found inf, expected a finite number"
        );
        assert!(refused(vec![0.0; MAX_VALUES + 1]).contains("at most 100000 values"));
    }
}
