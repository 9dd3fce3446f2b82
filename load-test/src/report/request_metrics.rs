//! The metrics of one request, computed from the timestamps of its record.
//!
//! A metric is `None` where it cannot be computed, never 0.

use std::time::Duration;

use precise_time::MonotonicTime;

use crate::{
    plan::Slo,
    record::{Class, RequestRecord},
};

/// Output tokens as the server counts them, otherwise as the client counts them after the run.
#[must_use]
pub fn output_tokens(record: &RequestRecord) -> Option<u32> {
    record.server_output_tokens.or(record.client_output_tokens)
}

/// Time to the first non-empty content of any kind, from `since`.
#[must_use]
pub fn time_to_first_token(record: &RequestRecord, since: MonotonicTime) -> Option<Duration> {
    Some(record.first_content?.saturating_since(since))
}

/// Time to the first content that is not reasoning, from `since`.
#[must_use]
pub fn time_to_first_answer(record: &RequestRecord, since: MonotonicTime) -> Option<Duration> {
    Some(record.first_answer?.saturating_since(since))
}

/// Time to the last content, from `since`.
#[must_use]
pub fn end_to_end(record: &RequestRecord, since: MonotonicTime) -> Option<Duration> {
    Some(record.last_content?.saturating_since(since))
}

/// Time per output token after the first, s: (last content − first content) / (n − 1). n is the number of tokens that were sent,
/// without hidden reasoning that the server counts.
///
/// `None` for fewer than two tokens, and where all were received in one chunk.
#[must_use]
pub fn time_per_output_token(record: &RequestRecord) -> Option<f64> {
    let tokens = output_tokens(record)?.saturating_sub(record.hidden_tokens);
    if tokens < 2 || record.chunks < 2 {
        return None;
    }
    let span = record.last_content?.saturating_since(record.first_content?);
    Some(span.as_secs_f64() / f64::from(tokens - 1))
}

/// Output tokens per second of the request's end-to-end latency.
#[must_use]
pub fn tokens_per_second(record: &RequestRecord) -> Option<f64> {
    let latency = end_to_end(record, record.sent?)?.as_secs_f64();
    (latency > 0.0).then_some(f64::from(output_tokens(record)?) / latency)
}

/// Whether the request was answered in full and met every objective that is set.
///
/// Latencies count from the intended start, because that is the time that a user waits. An answer that is too short for a time per
/// token meets the objective for it.
#[must_use]
pub fn is_good(record: &RequestRecord, slo: &Slo) -> bool {
    let within = |limit: Option<f64>, latency: Option<Duration>| {
        limit.is_none_or(|limit| latency.is_some_and(|latency| latency.as_secs_f64() <= limit))
    };
    record.class == Class::Ok
        && within(slo.ttft_s, time_to_first_token(record, record.intended))
        && within(slo.e2e_latency_s, end_to_end(record, record.intended))
        && slo
            .tpot_s
            .is_none_or(|limit| time_per_output_token(record).is_none_or(|tpot| tpot <= limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::{at, record};

    #[test]
    fn the_definitions_on_one_record() {
        // Due at 0 ms, sent at 10 ms, first token at 210 ms, 5 tokens until 290 ms.
        let record = record(0);
        let sent = record.sent.unwrap();
        assert_eq!(
            time_to_first_token(&record, sent),
            Some(Duration::from_millis(200))
        );
        assert_eq!(
            time_to_first_token(&record, record.intended),
            Some(Duration::from_millis(210))
        );
        assert_eq!(end_to_end(&record, sent), Some(Duration::from_millis(280)));
        assert_eq!(time_per_output_token(&record), Some(0.02));
        assert_eq!(tokens_per_second(&record), Some(5.0 / 0.28));
    }

    #[test]
    fn a_reasoning_that_was_not_told_has_no_pace() {
        let told = record(0);
        let hidden = RequestRecord {
            server_output_tokens: told.server_output_tokens.map(|tokens| tokens + 1000),
            hidden_tokens: 1000,
            ..told
        };
        assert_eq!(time_per_output_token(&hidden), time_per_output_token(&told));
        assert!(tokens_per_second(&hidden) > tokens_per_second(&told));
    }

    #[test]
    fn too_few_tokens_have_no_pace() {
        for (tokens, chunks) in [(Some(1), 1), (Some(5), 1), (None, 5)] {
            let short = RequestRecord {
                server_output_tokens: tokens,
                chunks,
                ..record(0)
            };
            assert_eq!(time_per_output_token(&short), None);
        }
    }

    #[test]
    fn a_request_is_good_only_from_its_intended_start() {
        let slo = Slo {
            ttft_s: Some(0.205),
            ..Slo::default()
        };
        let late = record(0);
        let punctual = RequestRecord {
            intended: at(10),
            ..late
        };
        assert!(!is_good(&late, &slo) && is_good(&punctual, &slo));
        let failed = RequestRecord {
            class: Class::Truncated,
            ..punctual
        };
        assert!(!is_good(&failed, &slo));
        let strict = Slo {
            tpot_s: Some(0.019),
            ..Slo::default()
        };
        assert!(!is_good(&punctual, &strict));
    }
}
