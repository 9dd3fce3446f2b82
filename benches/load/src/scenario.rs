//! The loads that are measured, and the goals for the client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One load on a server with known timings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub name: String,
    /// Concurrent streams. Each sends its next request as soon as the previous one ends.
    pub streams: u32,
    pub ttft: Duration,
    pub itl: Duration,
    /// Tokens of every response.
    pub tokens: u32,
    /// The time over which the streams begin, which is not measured.
    pub ramp: Duration,
    /// The measured time after the ramp.
    pub steady: Duration,
    pub aim: Aim,
    /// Whether the naive loop is measured too.
    pub has_peer: bool,
}

/// The purpose of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Aim {
    /// Paced streams: the client should add little to the server's times, and report a valid run.
    Faithful,
    /// More than the client can handle: it should report an invalid run.
    Overloaded,
    /// The maximum rate of requests on one core.
    Requests,
    /// The maximum rate of tokens on one core.
    Tokens,
    /// The memory of many slow streams.
    Memory,
}

/// The p99 of the client's error of a TTFT, in s.
pub(crate) const READ_ERROR_P99_S: f64 = 0.002;
/// The share of the tokens that a client without any delay would receive.
pub(crate) const OF_POSSIBLE: f64 = 0.95;
pub(crate) const REQUESTS_PER_S: f64 = 40_000.0;
pub(crate) const TOKENS_PER_S: f64 = 1e6;
pub(crate) const RESIDENT_MIB: f64 = 200.0;

/// How long streams may take to end after the last request was sent, in addition to one round.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(20);

const TTFT: Duration = Duration::from_millis(200);
const ITL: Duration = Duration::from_millis(20);
const TOKENS: u32 = 128;
/// Connections in scenarios without pacing: enough that neither side waits for the other.
const BUSY_STREAMS: u32 = 64;

impl Scenario {
    /// The time from the arrival of a request at the server to its last token.
    pub(crate) fn round(&self) -> Duration {
        self.ttft + self.itl * (self.tokens - 1)
    }

    /// Tokens per second for a client without any delay; `None` where the server has none either.
    pub(crate) fn possible_tokens_per_s(&self) -> Option<f64> {
        let round_s = self.round().as_secs_f64();
        (round_s > 0.0).then(|| f64::from(self.streams) * f64::from(self.tokens) / round_s)
    }

    /// Streams at the server's default pace. The ramp and the measured time are whole rounds, so that the streams are spread evenly and
    /// every stream has the same number of tokens in the window.
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

    /// Streams with one token a second, whose memory shows and whose work does not.
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
