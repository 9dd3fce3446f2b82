//! The lines of the journal's files.

use std::borrow::Cow;

use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use crate::record::{Class, RequestRecord};

/// A line of `requests.jsonl`. Times are seconds since the run's start, exact to the nanosecond for two months; null where the
/// event did not happen. Fields mean the same as those of [`RequestRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLine<'a> {
    /// Position in the schedule, from 0.
    pub index: u64,
    /// Class in which it ended.
    pub class: Class,
    /// HTTP status; null where none was received.
    pub status: Option<u16>,
    /// Error message; null where there is none.
    #[serde(borrow)]
    pub error: Option<Cow<'a, str>>,
    /// Worker thread that sent it.
    pub thread: u16,
    /// When it was due.
    pub intended_s: f64,
    /// First byte handed to the socket.
    pub sent_s: Option<f64>,
    /// Connection made; null where one was used again.
    pub connected_s: Option<f64>,
    /// Head of the response read.
    pub response_head_s: Option<f64>,
    /// First non-empty delta read.
    pub first_content_s: Option<f64>,
    /// First non-empty delta read that is not reasoning.
    pub first_answer_s: Option<f64>,
    /// Last non-empty delta read.
    pub last_content_s: Option<f64>,
    /// The exchange was over.
    pub closed_s: f64,
    /// When the mock server wrote the first token.
    pub server_wrote_first_s: Option<f64>,
    /// Tokens of the prompt, counted when it was made.
    pub prompt_tokens: u32,
    /// Tokens of the prompt as the server counts them.
    pub server_input_tokens: Option<u32>,
    /// Output tokens as the server counts them.
    pub server_output_tokens: Option<u32>,
    /// Output tokens of reasoning that the server did not send.
    #[serde(default)]
    pub hidden_tokens: u32,
    /// Output tokens as counted here after the run, where that was done.
    pub client_output_tokens: Option<u32>,
    /// Deltas with content.
    pub chunks: u32,
    /// Sent once more on a new connection, because the server had closed the kept one instead of answering.
    #[serde(default)]
    pub sent_again: bool,
}

impl<'a> RequestLine<'a> {
    /// The line of a request of the run that started at `started`.
    #[must_use]
    pub fn new(record: &RequestRecord, error: Option<&'a str>, started: MonotonicTime) -> Self {
        let since_start = |moment: Option<MonotonicTime>| moment.map(|moment| seconds(moment, started));
        Self {
            index: record.index,
            class: record.class,
            status: (record.status != 0).then_some(record.status),
            error: error.map(Cow::Borrowed),
            thread: record.thread,
            intended_s: seconds(record.intended, started),
            sent_s: since_start(record.sent),
            connected_s: since_start(record.connected),
            response_head_s: since_start(record.response_head),
            first_content_s: since_start(record.first_content),
            first_answer_s: since_start(record.first_answer),
            last_content_s: since_start(record.last_content),
            closed_s: seconds(record.closed, started),
            server_wrote_first_s: since_start(record.server_wrote_first),
            prompt_tokens: record.prompt_tokens,
            server_input_tokens: record.server_input_tokens,
            server_output_tokens: record.server_output_tokens,
            hidden_tokens: record.hidden_tokens,
            client_output_tokens: record.client_output_tokens,
            chunks: record.chunks,
            sent_again: record.sent_again,
        }
    }
}

impl RequestLine<'_> {
    /// The record that the line was made of; the run started at `started`.
    #[must_use]
    pub fn record(&self, started: MonotonicTime) -> RequestRecord {
        let moment = |since_start: Option<f64>| since_start.map(|seconds| moment(seconds, started));
        RequestRecord {
            index: self.index,
            intended: self::moment(self.intended_s, started),
            sent: moment(self.sent_s),
            connected: moment(self.connected_s),
            response_head: moment(self.response_head_s),
            first_content: moment(self.first_content_s),
            first_answer: moment(self.first_answer_s),
            last_content: moment(self.last_content_s),
            closed: self::moment(self.closed_s, started),
            server_wrote_first: moment(self.server_wrote_first_s),
            prompt_tokens: self.prompt_tokens,
            server_input_tokens: self.server_input_tokens,
            server_output_tokens: self.server_output_tokens,
            hidden_tokens: self.hidden_tokens,
            client_output_tokens: self.client_output_tokens,
            chunks: self.chunks,
            sent_again: self.sent_again,
            status: self.status.unwrap_or(0),
            class: self.class,
            thread: self.thread,
        }
    }
}

/// A line of `chunks.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunksLine {
    /// Position in the schedule, from 0.
    pub index: u64,
    /// When the deltas with content were read, seconds since the run's start.
    pub chunks_s: Vec<f64>,
}

impl ChunksLine {
    /// The line of request `index` of the run that started at `started`.
    #[must_use]
    pub fn new(index: u64, stamps: &[MonotonicTime], started: MonotonicTime) -> Self {
        Self {
            index,
            chunks_s: stamps.iter().map(|stamp| seconds(*stamp, started)).collect(),
        }
    }
}

/// Seconds from `started` to `moment`; negative where it is earlier. A double of up to 15 digits gives the integer of nanoseconds
/// back exactly.
fn seconds(moment: MonotonicTime, started: MonotonicTime) -> f64 {
    let (moment, started) = (moment.as_nanos(), started.as_nanos());
    let distance = moment.abs_diff(started) as f64 / 1e9;
    if moment < started { -distance } else { distance }
}

/// The moment `since_start_s` seconds after `started`, to the nanosecond.
fn moment(since_start_s: f64, started: MonotonicTime) -> MonotonicTime {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded; the cast saturates at times that no run reaches"
    )]
    let nanos = (since_start_s * 1e9).round() as i64;
    MonotonicTime::from_nanos(started.as_nanos().saturating_add_signed(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::{at, record};

    #[test]
    fn nanoseconds_survive_for_two_months() {
        let started = MonotonicTime::from_nanos(86_400_000_000_123);
        for nanos in [1, 999_999_999, 90_000_000_001, 5_184_000_000_000_001] {
            let moment = MonotonicTime::from_nanos(started.as_nanos() + nanos);
            let json = serde_json::to_string(&seconds(moment, started)).unwrap();
            let back: f64 = serde_json::from_str(&json).unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive and far below 2^64"
            )]
            let back = (back * 1e9).round() as u64;
            assert_eq!(back, nanos, "{json}");
            assert!(json.len() <= "5184000.000000001".len(), "{json}");
        }
        assert!(seconds(at(1), at(2)) < 0.0);
    }

    #[test]
    fn a_line() {
        let line = RequestLine::new(&record(3), Some("a \"quoted\" reason"), at(0));
        insta::assert_snapshot!(serde_json::to_string_pretty(&line).unwrap());
        let json = serde_json::to_string(&line).unwrap();
        let back = serde_json::from_str::<RequestLine<'_>>(&json).unwrap();
        assert_eq!(back, line);
        assert_eq!(back.record(at(0)), record(3));
    }
}
