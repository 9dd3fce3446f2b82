//! The results of the tests as one line.

use std::time::Duration;

/// The number of passed tests and the names of the failed ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestSummary {
    pub(crate) passed: usize,
    /// Each as `package::program test`.
    pub(crate) failed: Vec<String>,
    /// Why the numbers are incomplete, such as a program that ended without a result.
    pub(crate) problems: Vec<String>,
}

impl TestSummary {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.problems.extend(other.problems);
    }

    /// Whether all tests passed. A run without any test has not passed: its selection was wrong.
    pub(crate) fn passed(&self) -> bool {
        self.failed.is_empty() && self.problems.is_empty() && self.passed > 0
    }

    pub(crate) fn line(&self, took: Duration) -> String {
        let mut line = format!("tests: {} passed, {} failed", self.passed, self.failed.len());
        if !self.failed.is_empty() {
            line += &format!(" ({})", self.failed.join(", "));
        }
        for reason in &self.problems {
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
        let mut summary = TestSummary {
            passed: 3,
            ..TestSummary::default()
        };
        assert!(summary.passed());
        assert_eq!(
            summary.line(Duration::from_millis(61_900)),
            "tests: 3 passed, 0 failed, in 61 s"
        );
        summary.add(TestSummary {
            passed: 1,
            failed: vec!["outbox::it sweeping".to_owned()],
            problems: vec!["storage::it ended without a result".to_owned()],
        });
        assert!(!summary.passed());
        assert_eq!(
            summary.line(Duration::ZERO),
            "tests: 4 passed, 1 failed (outbox::it sweeping), storage::it ended without a result, in 0 s"
        );
    }

    #[test]
    fn no_test_at_all_is_not_a_success() {
        assert!(!TestSummary::default().passed());
    }
}
