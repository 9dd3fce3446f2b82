use std::time::Duration;

use anyhow::ensure;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use crate::{
    client_run::{ClientKind, ClientRun, RequestTimes, SelfReport},
    machine::ProcessUsage,
    scenario::Scenario,
};

/// Quantiles of a duration, in s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// One round of one client. Rates are those of the steady window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub client: ClientKind,
    /// At the beginning of the round. The parent process sets it.
    pub load_average: f64,
    pub requests: usize,
    pub failed: usize,
    pub requests_per_s: f64,
    pub tokens_per_s: f64,
    /// The share of the tokens that a client without any delay would have received.
    pub of_possible: Option<f64>,
    /// Measured TTFT less the server's nominal TTFT.
    pub ttft_error_s: Option<Quantiles>,
    /// Time of reading the first content less the time of writing the first token, which is the error of the client and the kernel.
    pub read_error_s: Option<Quantiles>,
    /// Time of writing the first token less the time it was due, p99. The parent process sets it.
    pub server_lateness_p99_s: Option<f64>,
    pub self_report: Option<SelfReport>,
    /// CPU time of the whole process as a share of the window.
    pub cpu_share: f64,
    /// Time in the queue for the core, because others used it, as a share of the window.
    pub waited_share: f64,
    /// `None` where no token was received within the window.
    pub cpu_us_per_token: Option<f64>,
    pub cpu_us_per_request: Option<f64>,
    pub resident_mib: f64,
}

impl Figures {
    pub(crate) fn of(
        scenario: &Scenario,
        client: ClientKind,
        run: &ClientRun,
        window: (MonotonicTime, MonotonicTime),
        usage: (ProcessUsage, ProcessUsage),
        resident_mib: f64,
    ) -> anyhow::Result<Self> {
        let (before, after) = usage;
        let between_s = after.at.saturating_since(before.at).as_secs_f64();
        let cpu_share = after.cpu.saturating_sub(before.cpu).as_secs_f64() / between_s;
        let waited_share = after.waited.saturating_sub(before.waited).as_secs_f64() / between_s;
        let window_s = window.1.saturating_since(window.0).as_secs_f64();
        let tokens: f64 = run
            .requests
            .iter()
            .map(|request| request.tokens_within(window))
            .sum();
        let closed = run
            .requests
            .iter()
            .filter(|request| within(request.closed, window));
        let requests_per_s = count(closed) / window_s;
        let tokens_per_s = tokens / window_s;
        ensure!(
            tokens > 0.0,
            "{client:?} read no token in the window of {}",
            scenario.name
        );
        let is_paced = !scenario.round().is_zero();
        let measured = || run.requests.iter().filter(|request| request.began_within(window));
        Ok(Self {
            client,
            load_average: 0.0,
            requests: run.requests.len(),
            failed: run.requests.iter().filter(|request| !request.is_ok).count(),
            requests_per_s,
            tokens_per_s,
            of_possible: scenario
                .possible_tokens_per_s()
                .map(|possible| tokens_per_s / possible),
            ttft_error_s: quantiles(measured().filter_map(|request| request.ttft_error_s(scenario.ttft)))
                .filter(|_| is_paced),
            read_error_s: quantiles(measured().filter_map(RequestTimes::read_error_s)),
            server_lateness_p99_s: None,
            self_report: run.self_report.clone(),
            cpu_share,
            waited_share,
            cpu_us_per_token: (tokens_per_s > 0.0).then(|| cpu_share / tokens_per_s * 1e6),
            cpu_us_per_request: (requests_per_s > 0.0).then(|| cpu_share / requests_per_s * 1e6),
            resident_mib,
        })
    }
}

impl RequestTimes {
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
