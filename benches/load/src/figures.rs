//! From what a client saw to the figures of one round.

use std::time::Duration;

use anyhow::ensure;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use crate::{
    client::{Client, Ran},
    machine::Used,
    scenario::Scenario,
};

/// A request, as either client saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub sent: Option<MonotonicTime>,
    pub first: Option<MonotonicTime>,
    pub last: Option<MonotonicTime>,
    pub closed: MonotonicTime,
    pub tokens: u32,
    pub server_wrote_first: Option<MonotonicTime>,
    pub is_ok: bool,
}

/// What a client says of its own error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SelfReport {
    pub is_valid: bool,
    pub reasons: Vec<String>,
    pub loop_lag_p99_s: Option<f64>,
    pub stamp_uncertainty_p99_s: Option<f64>,
}

/// Of a duration, s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// One round of one client. Rates are those of the steady window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub client: Client,
    /// When the round began; the parent sets it.
    pub load_average: f64,
    pub requests: usize,
    pub failed: usize,
    pub requests_per_s: f64,
    pub tokens_per_s: f64,
    /// Of the tokens that would have come if only the server took time.
    pub of_possible: Option<f64>,
    /// Measured TTFT − the server's nominal one.
    pub ttft_error_s: Option<Quantiles>,
    /// First content read − first token written: the client's own part of it, and the kernel's.
    pub read_error_s: Option<Quantiles>,
    /// First token written − due, p99; the parent sets it.
    pub server_lateness_p99_s: Option<f64>,
    pub says: Option<SelfReport>,
    /// CPU time of the whole process over the window.
    pub cpu_share: f64,
    /// Time in the queue for the core over the window: what others took from it.
    pub waited_share: f64,
    /// `None` where none came within the window.
    pub cpu_us_per_token: Option<f64>,
    pub cpu_us_per_request: Option<f64>,
    pub resident_mib: f64,
}

impl Figures {
    pub(crate) fn of(
        scenario: &Scenario,
        client: Client,
        ran: &Ran,
        window: (MonotonicTime, MonotonicTime),
        used: (Used, Used),
        resident_mib: f64,
    ) -> anyhow::Result<Self> {
        let (before, after) = used;
        let between_s = after.at.saturating_since(before.at).as_secs_f64();
        let cpu_share = after.cpu.saturating_sub(before.cpu).as_secs_f64() / between_s;
        let waited_share = after.waited.saturating_sub(before.waited).as_secs_f64() / between_s;
        let window_s = window.1.saturating_since(window.0).as_secs_f64();
        let tokens: f64 = ran.requests.iter().map(|seen| seen.tokens_within(window)).sum();
        let closed = ran.requests.iter().filter(|seen| within(seen.closed, window));
        let requests_per_s = count(closed) / window_s;
        let tokens_per_s = tokens / window_s;
        ensure!(
            tokens > 0.0,
            "{client:?} read no token in the window of {}",
            scenario.name
        );
        let is_paced = !scenario.round().is_zero();
        let measured = || ran.requests.iter().filter(|seen| seen.began_within(window));
        Ok(Self {
            client,
            load_average: 0.0,
            requests: ran.requests.len(),
            failed: ran.requests.iter().filter(|seen| !seen.is_ok).count(),
            requests_per_s,
            tokens_per_s,
            of_possible: scenario
                .possible_tokens_per_s()
                .map(|possible| tokens_per_s / possible),
            ttft_error_s: quantiles(measured().filter_map(|seen| seen.ttft_error_s(scenario.ttft)))
                .filter(|_| is_paced),
            read_error_s: quantiles(measured().filter_map(Seen::read_error_s)),
            server_lateness_p99_s: None,
            says: ran.says.clone(),
            cpu_share,
            waited_share,
            cpu_us_per_token: (tokens_per_s > 0.0).then(|| cpu_share / tokens_per_s * 1e6),
            cpu_us_per_request: (requests_per_s > 0.0).then(|| cpu_share / requests_per_s * 1e6),
            resident_mib,
        })
    }
}

impl Seen {
    fn began_within(&self, window: (MonotonicTime, MonotonicTime)) -> bool {
        self.sent.is_some_and(|sent| within(sent, window))
    }

    fn ttft_error_s(&self, nominal: Duration) -> Option<f64> {
        let ttft = self.first?.saturating_since(self.sent?);
        Some(ttft.as_secs_f64() - nominal.as_secs_f64())
    }

    fn read_error_s(&self) -> Option<f64> {
        let error = self.first?.saturating_since(self.server_wrote_first?);
        Some(error.as_secs_f64())
    }

    /// The tokens are taken as spread evenly from the first to the last.
    fn tokens_within(&self, window: (MonotonicTime, MonotonicTime)) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return 0.0;
        };
        let all = last.saturating_since(first).as_secs_f64();
        if all == 0.0 {
            return if within(first, window) {
                f64::from(self.tokens)
            } else {
                0.0
            };
        }
        let overlap = last.min(window.1).saturating_since(first.max(window.0));
        f64::from(self.tokens) * overlap.as_secs_f64() / all
    }
}

fn within(moment: MonotonicTime, window: (MonotonicTime, MonotonicTime)) -> bool {
    (window.0..window.1).contains(&moment)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of requests is far less than 2^53"
)]
fn count<T>(items: impl Iterator<Item = T>) -> f64 {
    items.count() as f64
}

fn quantiles(values: impl Iterator<Item = f64>) -> Option<Quantiles> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let max = *sorted.last()?;
    // Nearest rank.
    let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
    Some(Quantiles {
        p50: at(50),
        p99: at(99),
        max,
    })
}
