//! The plan of a run: everything that decides its course. It is part of the report.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use llm_client::Api;
use serde::{Deserialize, Serialize};

/// Everything that decides the course of a run. Two runs with one plan send the same requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The model as the API knows it; also the LLM's name in the rankings.
    pub model: String,
    /// The API of the server.
    pub api: Api,
    /// Which prompts are sent.
    pub workload: Workload,
    /// When requests are sent.
    pub load: Load,
    /// When the run ends.
    pub stop: Stop,
    /// The first requests, as many as this, are in no figure.
    pub warmup_requests: u64,
    /// The limits that a good request keeps.
    pub slo: Slo,
    /// Seed of prompts, lengths and arrivals.
    pub seed: u64,
    /// Whether the answers are streamed.
    pub stream: bool,
    /// A request that takes longer is cancelled and counts as timed out.
    #[serde(rename = "request_timeout_s", with = "seconds")]
    pub request_timeout: Duration,
    /// Number of worker threads.
    pub client_cores: NonZeroU32,
    /// Fields of every request's body; they override other fields (LLMPerf's `--additional-sampling-params`).
    pub sampling: serde_json::Map<String, serde_json::Value>,
    /// The user's own labels (LLMPerf's `--metadata`).
    pub metadata: BTreeMap<String, String>,
}

/// Which prompts are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Workload {
    /// LLMPerf's: lines of Shakespeare's sonnets, cut to the exact number of tokens.
    Sonnets {
        /// Input tokens, the instruction included.
        input_tokens: Lengths,
        /// Output tokens asked for.
        output_tokens: Lengths,
        /// Number of tokens at the start that are the same for all prompts.
        shared_prefix_tokens: u32,
        /// Most different prompts; further requests repeat them in order.
        distinct_prompts: NonZeroU32,
    },
    /// The user's own prompts or ShareGPT conversations, one JSON object a line.
    Dataset {
        /// The file.
        path: std::path::PathBuf,
        /// Output tokens asked for where a line has no length.
        output_tokens: Lengths,
    },
    /// Lengths (and, with [`Load::Trace`], times) from Mooncake's or Azure's public traces; the text is made of sonnets.
    Trace {
        /// The file.
        path: std::path::PathBuf,
    },
    /// LLMPerf's correctness test: numbers spelled out.
    Correctness,
}

/// Lengths in tokens: a Gaussian, drawn again until it is positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Mean, tokens.
    pub mean: f64,
    /// Standard deviation, tokens.
    pub stddev: f64,
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Load {
    /// Closed loop: a constant number of streams, each of which sends a new request the moment one ends.
    Closed {
        /// Number of streams.
        concurrency: NonZeroU32,
        /// The streams start evenly over this time.
        #[serde(rename = "ramp_up_s", with = "seconds")]
        ramp_up: Duration,
    },
    /// Open loop: requests arrive whether or not the server keeps up.
    Open {
        /// Requests per second, once the ramp is over.
        rate: f64,
        /// How the gaps between them are distributed.
        arrival: Arrival,
        /// The rate grows linearly from zero over this time.
        #[serde(rename = "ramp_up_s", with = "seconds")]
        ramp_up: Duration,
        /// Requests that would exceed this number in flight are dropped and counted as dropped.
        max_in_flight: NonZeroU32,
    },
    /// Open loop at the times that the workload's trace gives.
    Trace {
        /// Factor by which the trace is played faster.
        speed: f64,
        /// Requests that would exceed this number in flight are dropped and counted as dropped.
        max_in_flight: NonZeroU32,
    },
}

impl Load {
    /// Time over which the load grows; zero for a trace, which has its own times.
    #[must_use]
    pub fn ramp_up(&self) -> Duration {
        match self {
            Self::Closed { ramp_up, .. } | Self::Open { ramp_up, .. } => *ramp_up,
            Self::Trace { .. } => Duration::ZERO,
        }
    }

    /// Whether requests are due at given times, and not when another request ends.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// The highest number of requests in flight.
    #[must_use]
    pub fn most_in_flight(&self) -> u32 {
        match self {
            Self::Closed { concurrency, .. } => concurrency.get(),
            Self::Open { max_in_flight, .. } | Self::Trace { max_in_flight, .. } => max_in_flight.get(),
        }
    }
}

/// How the gaps between arrivals are distributed. Their mean is always 1/rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Arrival {
    /// All gaps are the same.
    Constant,
    /// Exponential gaps: independent users.
    Poisson,
    /// Gamma-distributed gaps: burstier than Poisson above 1, smoother below.
    Gamma {
        /// Coefficient of variation of the gaps (standard deviation over mean).
        cv: f64,
    },
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// No request is sent later than this after the first.
    #[serde(rename = "send_for_s", with = "seconds")]
    pub send_for: Duration,
    /// Number of requests after which no more are sent.
    pub max_requests: Option<u64>,
    /// Requests that are still in flight this long after the last was sent are cancelled.
    #[serde(rename = "drain_s", with = "seconds")]
    pub drain: Duration,
}

/// Service level objectives; a request that meets all that are set is good.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Slo {
    /// Longest time to the first token, s.
    pub ttft_s: Option<f64>,
    /// Longest time per output token, s.
    pub tpot_s: Option<f64>,
    /// Longest time to the last token, s.
    pub e2e_latency_s: Option<f64>,
}

/// Serialises durations as seconds, like all times of the report.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
    }
}
