use clap::ValueEnum;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

/// The clients that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientKind {
    /// The load test's engine.
    LlmBench,
    /// A simple loop on hyper.
    Naive,
}

/// What a client measured in one round.
#[derive(Debug)]
pub(crate) struct ClientRun {
    pub requests: Vec<RequestTimes>,
    /// `None` for the naive loop.
    pub self_report: Option<SelfReport>,
}

/// The times of a request, as either client measured them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTimes {
    pub sent: Option<MonotonicTime>,
    pub first: Option<MonotonicTime>,
    pub last: Option<MonotonicTime>,
    pub closed: MonotonicTime,
    pub tokens: u32,
    pub server_wrote_first: Option<MonotonicTime>,
    pub is_ok: bool,
}

/// A client's statement about its own error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SelfReport {
    pub is_valid: bool,
    pub reasons: Vec<String>,
    pub loop_lag_p99_s: Option<f64>,
    pub stamp_uncertainty_p99_s: Option<f64>,
}
