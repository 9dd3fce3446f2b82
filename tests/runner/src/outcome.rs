//! What came of the tests, as one line.

use std::time::Duration;

/// Counts, and the names of what failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    /// Each as `package::program test`.
    pub(crate) failed: Vec<String>,
    /// Why the numbers say nothing, where that is so: a program that ended without a result, say.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.broken.extend(other.broken);
    }

    /// A run without a single test has not passed: its selection was wrong.
    pub(crate) fn passed(&self) -> bool {
        self.failed.is_empty() && self.broken.is_empty() && self.passed > 0
    }

    pub(crate) fn line(&self, took: Duration) -> String {
        let mut line = format!("tests: {} passed, {} failed", self.passed, self.failed.len());
        if !self.failed.is_empty() {
            line += &format!(" ({})", self.failed.join(", "));
        }
        for reason in &self.broken {
            line += &format!(", {reason}");
        }
        line + &format!(", in {} s", took.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_and_names_what_failed() {
        let mut outcome = Outcome {
            passed: 3,
            ..Outcome::default()
        };
        assert!(outcome.passed());
        assert_eq!(
            outcome.line(Duration::from_millis(61_900)),
            "tests: 3 passed, 0 failed, in 61 s"
        );
        outcome.add(Outcome {
            passed: 1,
            failed: vec!["outbox::it sweeping".to_owned()],
            broken: vec!["storage::it ended without a result".to_owned()],
        });
        assert!(!outcome.passed());
        assert_eq!(
            outcome.line(Duration::ZERO),
            "tests: 4 passed, 1 failed (outbox::it sweeping), storage::it ended without a result, in 0 s"
        );
    }

    #[test]
    fn no_test_at_all_is_not_a_success() {
        assert!(!Outcome::default().passed());
    }
}
