//! What is measured, and what the client is wanted to hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One load on a server with known times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub name: String,
    /// Streams held at once, each with its next request as soon as one ends.
    pub streams: u32,
    pub ttft: Duration,
    pub itl: Duration,
    /// Of every answer.
    pub tokens: u32,
    /// Over which the streams begin; nothing of it is measured.
    pub ramp: Duration,
    /// What is measured.
    pub steady: Duration,
    pub aim: Aim,
    /// Whether the naive loop is measured too.
    pub has_peer: bool,
}

/// What a scenario shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Aim {
    /// Streams with the server's own times: the client adds little, and says that it does.
    Faithful,
    /// More than the client can hold: it says so.
    Overloaded,
    /// As many requests as a core can send and follow.
    Requests,
    /// As many tokens as a core can read.
    Tokens,
    /// Streams that only wait.
    Memory,
}

/// The p99 of what the client adds to a TTFT, s.
pub(crate) const READ_ERROR_P99_S: f64 = 0.002;
/// Of the tokens that a client without any delay would get.
pub(crate) const OF_POSSIBLE: f64 = 0.95;
pub(crate) const REQUESTS_PER_S: f64 = 40_000.0;
pub(crate) const TOKENS_PER_S: f64 = 1e6;
pub(crate) const RESIDENT_MIB: f64 = 200.0;

const TTFT: Duration = Duration::from_millis(200);
const ITL: Duration = Duration::from_millis(20);
const TOKENS: u32 = 128;
/// Connections in use while only the client's speed matters: enough that none of both sides waits for the other.
const BUSY_STREAMS: u32 = 64;

impl Scenario {
    /// From a request's arrival at the server to its last token.
    pub(crate) fn round(&self) -> Duration {
        self.ttft + self.itl * (self.tokens - 1)
    }

    /// Tokens per second that would come if only the server took time; `None` where it takes none.
    pub(crate) fn possible_tokens_per_s(&self) -> Option<f64> {
        let round_s = self.round().as_secs_f64();
        (round_s > 0.0).then(|| f64::from(self.streams) * f64::from(self.tokens) / round_s)
    }

    /// A ramp of whole rounds leaves the streams evenly spread over their rounds, and over whole rounds every stream brings the same
    /// number of tokens wherever it stands: so the window needs no correction.
    fn paced(name: &str, streams: u32, (ramp, steady): (u32, u32), aim: Aim) -> Self {
        let mut scenario = Self {
            name: name.to_owned(),
            streams,
            ttft: TTFT,
            itl: ITL,
            tokens: TOKENS,
            ramp: Duration::ZERO,
            steady: Duration::ZERO,
            aim,
            has_peer: aim == Aim::Faithful,
        };
        (scenario.ramp, scenario.steady) = (scenario.round() * ramp, scenario.round() * steady);
        scenario
    }

    /// A token a second: what a stream holds shows, not what it does.
    fn waiting(name: &str, streams: u32, seconds: u64) -> Self {
        Self {
            name: name.to_owned(),
            streams,
            ttft: TTFT,
            itl: Duration::from_secs(1),
            tokens: 8,
            ramp: Duration::from_secs(seconds),
            steady: Duration::from_secs(4),
            aim: Aim::Memory,
            has_peer: true,
        }
    }

    fn at_once(name: &str, tokens: u32, steady_s: u64, aim: Aim) -> Self {
        Self {
            name: name.to_owned(),
            streams: BUSY_STREAMS,
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            tokens,
            ramp: Duration::from_millis(500),
            steady: Duration::from_secs(steady_s),
            aim,
            has_peer: true,
        }
    }
}

/// All scenarios; `quick` is two minutes of them instead of eight.
pub(crate) fn scenarios(quick: bool) -> Vec<Scenario> {
    let (rounds, seconds) = if quick { ((1, 1), 2) } else { ((2, 3), 5) };
    vec![
        Scenario::paced("1024-streams", 1024, rounds, Aim::Faithful),
        Scenario::paced("4096-streams", 4096, rounds, Aim::Faithful),
        Scenario::paced("overload", 16_000, rounds, Aim::Overloaded),
        Scenario::at_once("requests", 16, seconds, Aim::Requests),
        Scenario::at_once("tokens", TOKENS, seconds, Aim::Tokens),
        Scenario::waiting("10000-streams", 10_000, seconds),
    ]
}
