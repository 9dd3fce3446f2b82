//! Verdicts of several shares of a run, and of a report that does not add up.

use crate::verdict::{ClientError, Verdict};

impl ClientError {
    /// Makes the verdict invalid, for this reason.
    pub(crate) fn invalidate(&mut self, reason: String) {
        self.verdict = Verdict::Invalid;
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// The worse of both in everything: what one share did wrong is in the common figures.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.verdict == Verdict::Invalid {
            self.verdict = Verdict::Invalid;
        }
        self.reasons.extend(other.reasons.iter().cloned());
        self.reasons.sort();
        self.reasons.dedup();
        self.ttft_p99_s = larger(self.ttft_p99_s, other.ttft_p99_s);
        self.late_send_p99_s = larger(self.late_send_p99_s, other.late_send_p99_s);
        self.loop_lag_p99_s = larger(self.loop_lag_p99_s, other.loop_lag_p99_s);
        self.stamp_uncertainty_p99_s = larger(self.stamp_uncertainty_p99_s, other.stamp_uncertainty_p99_s);
    }
}

/// The larger of the known values.
pub(super) fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_two_counts() {
        let good = ClientError {
            verdict: Verdict::Valid,
            reasons: Vec::new(),
            ttft_p99_s: Some(0.001),
            late_send_p99_s: None,
            loop_lag_p99_s: Some(0.003),
            stamp_uncertainty_p99_s: Some(0.0),
        };
        let mut bad = ClientError {
            ttft_p99_s: Some(0.002),
            late_send_p99_s: Some(0.1),
            stamp_uncertainty_p99_s: Some(0.5),
            ..good.clone()
        };
        bad.invalidate("late".to_owned());
        let mut one = good.clone();
        one.merge(&bad);
        let mut other = bad.clone();
        other.merge(&good);
        assert_eq!(one, other);
        assert_eq!(
            (one.verdict, one.reasons),
            (Verdict::Invalid, vec!["late".to_owned()])
        );
        assert_eq!(
            (
                one.ttft_p99_s,
                one.late_send_p99_s,
                one.loop_lag_p99_s,
                one.stamp_uncertainty_p99_s
            ),
            (Some(0.002), Some(0.1), Some(0.003), Some(0.5))
        );
    }
}
