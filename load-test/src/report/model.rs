//! `report.json`: the figures of a run, with their units in their names, and null where a figure has no basis.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    distribution::Distribution,
    tokens::{CountedBy, TokenDifference},
    window::{TooShort, WindowKind},
};
use crate::{
    calibration::Calibration,
    plan::{Plan, Slo},
    record::Class,
    share::Share,
    verdict::ClientError,
};

/// The version of the format. It is increased when a field changes its meaning or is removed, not for new fields.
pub const SCHEMA_VERSION: u32 = 1;

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Identifies the run.
    pub run_id: String,
    /// The model, as the API knows it.
    pub model: String,
    /// Prompts, load and objectives.
    pub workload: WorkloadSection,
    /// The load generator.
    pub client: ClientSection,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// Whether it was cancelled before its end.
    pub interrupted: bool,
    /// Length of the window of the figures.
    pub steady_window_s: f64,
    /// The window of the figures.
    pub steady_window: WindowSection,
    /// Time to the first content of any kind, from sent.
    pub ttft_s: Distribution,
    /// Time to the first content from the intended start.
    pub ttft_from_intended_s: Distribution,
    /// Time to the first content that is not reasoning, from sent.
    pub ttfo_s: Distribution,
    /// Time per output token after the first.
    pub tpot_s: Distribution,
    /// Raw gaps between chunks with content, pooled over all streams.
    pub icl_s: Distribution,
    /// Time to the last content, from sent.
    pub e2e_latency_s: Distribution,
    /// Time to the last content from the intended start.
    pub e2e_from_intended_s: Distribution,
    /// Output tokens per second of each request.
    pub tps: Distribution,
    /// Tokens of the prompts as counted when they were made.
    pub prompt_tokens: Distribution,
    /// Output tokens of each request.
    pub output_tokens: Distribution,
    /// Output tokens of the requests completed in the window, per second of it.
    pub output_tokens_per_s: Option<f64>,
    /// Requests completed in the window, per second of it.
    pub requests_per_s: Option<f64>,
    /// Requests that met every objective over all scheduled; null without objectives.
    pub goodput: Option<Goodput>,
    /// How the requests ended, the warm-up's left out.
    pub requests: RequestTotals,
    /// Requests of the warm-up; they are in no figure.
    pub warmup_requests: u64,
    /// Failures, the most frequent first.
    pub errors: Vec<ErrorSummary>,
    /// Pauses of streams after failures.
    pub backoff: BackoffSection,
    /// Who counted the output tokens.
    pub token_accounting: TokenAccounting,
    /// The client's own error.
    pub client_error: ClientError,
    /// The client's own error, measured before the run; null where it was not.
    pub calibration: Option<Calibration>,
    /// What could not be written, kept or counted.
    pub problems: Vec<String>,
    /// The shares that the report was merged from, in their order; empty for a run of one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareSection>,
}

/// One of the shares that a report was merged from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareSection {
    /// Which one.
    pub share: Share,
    /// The id of its own run.
    pub run_id: String,
    /// Its machine.
    pub host: String,
    /// Version of its program.
    pub version: String,
    /// Its worker threads.
    pub cores: u32,
    /// The first moment of the window that its figures are about, by its wall clock.
    pub window_start: DateTime<Utc>,
    /// The last moment of that window.
    pub window_end: DateTime<Utc>,
    /// How far its wall clock may have been off, s; null where that is unknown.
    pub clock_error_s: Option<f64>,
    /// How its requests ended, the warm-up's left out.
    pub requests: RequestTotals,
    /// Its requests of the warm-up.
    pub warmup_requests: u64,
    /// Its client's own error.
    pub client_error: ClientError,
    /// What its client measured of a server with known timings; null where it was not asked to.
    pub calibration: Option<Calibration>,
}

/// Prompts, load and objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSection {
    /// All parameters: prompts, load, arrival process, seed, objectives.
    #[serde(flatten)]
    pub plan: Plan,
    /// The tokenizer that the prompts were counted with.
    pub tokenizer: String,
    /// Statistics of the prompts.
    pub facts: serde_json::Map<String, serde_json::Value>,
}

/// The load generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientSection {
    /// Version of this program.
    pub version: String,
    /// Worker threads.
    pub cores: u32,
    /// The machine.
    pub host: String,
    /// Shares whose figures are merged here; 1 for a run of one process.
    #[serde(rename = "workers")]
    pub shares: u32,
    /// Share of a core that the busiest worker thread used while requests were sent.
    pub busiest_thread_cpu_share: Option<f64>,
}

/// The window of the figures; times since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowSection {
    /// Whether it is the steady part or the whole run.
    pub kind: WindowKind,
    /// Why the steady part was not used; null where it was.
    pub too_short: Option<TooShort>,
    /// Its first moment.
    pub start_s: f64,
    /// Its last moment.
    pub end_s: f64,
}

/// Requests that met every objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// The objectives.
    pub slo: Slo,
    /// Requests that were answered in full and met all of them.
    pub good: u64,
    /// Good requests over all scheduled requests; null where none was scheduled.
    pub share: Option<f64>,
}

/// How requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestTotals {
    /// Requests that were due.
    pub scheduled: u64,
    /// See [`Class::Ok`].
    pub ok: u64,
    /// See [`Class::HttpError`].
    pub http_error: u64,
    /// See [`Class::StreamError`].
    pub stream_error: u64,
    /// See [`Class::Truncated`].
    pub truncated: u64,
    /// See [`Class::TimedOut`].
    pub timed_out: u64,
    /// See [`Class::Dropped`].
    pub dropped: u64,
    /// See [`Class::Cancelled`].
    pub cancelled: u64,
}

impl RequestTotals {
    /// Counts a request that ended in `class`.
    pub fn add(&mut self, class: Class) {
        *self.of_mut(class) += 1;
    }

    /// Adds other totals.
    pub fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        for (class, count) in other.by_class() {
            *self.of_mut(class) += count;
        }
    }

    /// The classes and how many requests ended in each.
    #[must_use]
    pub fn by_class(&self) -> [(Class, u64); 7] {
        [
            (Class::Ok, self.ok),
            (Class::HttpError, self.http_error),
            (Class::StreamError, self.stream_error),
            (Class::Truncated, self.truncated),
            (Class::TimedOut, self.timed_out),
            (Class::Dropped, self.dropped),
            (Class::Cancelled, self.cancelled),
        ]
    }

    /// How many requests ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.by_class().iter().map(|(_, count)| count).sum()
    }

    /// Whether every scheduled request ended in exactly one class.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.ended() == self.scheduled
    }

    fn of_mut(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Ok => &mut self.ok,
            Class::HttpError => &mut self.http_error,
            Class::StreamError => &mut self.stream_error,
            Class::Truncated => &mut self.truncated,
            Class::TimedOut => &mut self.timed_out,
            Class::Dropped => &mut self.dropped,
            Class::Cancelled => &mut self.cancelled,
        }
    }
}

/// Requests that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSummary {
    /// How they ended.
    pub class: Class,
    /// HTTP status; null where none came.
    pub status: Option<u16>,
    /// Number of such failures.
    pub count: u64,
    /// The message of one of them.
    pub sample: Option<String>,
}

/// Pauses of a closed loop's streams after failures and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BackoffSection {
    /// Number of pauses.
    pub waits: u64,
    /// Sum of their lengths over all streams.
    pub total_s: f64,
}

/// Who counted the output tokens, and how much the counts differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenAccounting {
    /// Whose counts are used for the figures; null where nobody counted.
    pub counted_by: Option<CountedBy>,
    /// Answered requests whose tokens the server counted.
    pub server: u64,
    /// Answered requests whose tokens only the client counted.
    pub client: u64,
    /// Answered requests whose tokens nobody counted.
    pub uncounted: u64,
    /// Server's count − client's count, tokens.
    pub difference: TokenDifference,
}
