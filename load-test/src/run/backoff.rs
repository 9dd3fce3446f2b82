use std::time::Duration;

use llm_client::Outcome;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is obeyed: otherwise one header could stop a run.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How long a closed loop's stream pauses before its next request.
///
/// There is no pause after an answer. After a failure it is 10 ms, doubled with each further failure up to a second, so that a
/// server that refuses everything is not asked in a busy loop. `Retry-After` of a 429 or 503 is obeyed, up to a minute.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn after(&mut self, outcome: &Outcome) -> Option<Duration> {
        if matches!(outcome, Outcome::Ok) {
            self.failures = 0;
            return None;
        }
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let asked = match outcome {
            Outcome::HttpError {
                status: 429 | 503,
                retry_after: Some(asked),
                ..
            } => (*asked).min(LONGEST_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        Some(doubled.min(LONGEST).max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http_error(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::HttpError {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            message: "".into(),
        }
    }

    #[test]
    fn failures_double_the_wait_and_an_answer_ends_it() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9)
            .filter_map(|_| backoff.after(&Outcome::Truncated))
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(backoff.after(&Outcome::Ok), None);
        assert_eq!(backoff.after(&Outcome::TimedOut), Some(FIRST));
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let after = |outcome| Backoff::default().after(&outcome).unwrap();
        assert_eq!(after(http_error(429, Some(2))), Duration::from_secs(2));
        assert_eq!(after(http_error(503, Some(86_400))), LONGEST_RETRY_AFTER);
        assert_eq!(after(http_error(429, Some(0))), FIRST, "no busy loop");
        assert_eq!(after(http_error(500, Some(2))), FIRST);
    }

    #[test]
    fn endless_failures_do_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.after(&Outcome::Truncated), Some(LONGEST));
    }
}
