//! Whether a run's figures can be believed: a bound on the client's own error, and why it is too large.
//!
//! # The bound
//!
//! A TTFT is a difference of two stamps. *Sent* is taken just before the call that writes: nothing of ours lies between. *First
//! content* is the kernel's stamp of what brought it, where it gives one: nothing of ours lies between there either. Where more content had
//! come behind before the read, or the kernel gave none, it may be too late, and never too early. By how much is known thrice:
//!
//! - **Stamp uncertainty**: of each request of the run, the time since its socket was last found empty
//!   ([`llm_client::Exchange::first_content_uncertainty`]); zero where the kernel's stamp is that of the first content alone.
//! - **Loop lag**: during the run, a timer every 5 ms asks each thread's loop how late it comes to what is ready. It weighs all moments
//!   alike. It bounds the same error from the other side, so the smaller of the two 99th percentiles counts.
//! - **Calibration**: before the run, the same client under the same load measures a server that tells when it wrote. It sees everything
//!   from that write to our stamp, request by request, but in another minute.
//!
//! What the kernel itself takes until it stamps, only a calibration sees; a run takes it for 0.1 ms at least.
//!
//! The bound on TTFT's p99 is the larger of the calibration's and the run's own. Both are on one side: true values may be smaller by so
//! much, not larger.
//!
//! # What makes a run invalid
//!
//! - The bound exceeds 2 ms and 2 % of the TTFT's median ([`ErrorLimits`]): the figures would partly be the client's.
//! - Open loop: requests were sent later than they were due, by the same limit. The load was not the one that was asked for.
//! - Closed loop: fewer than 98 % of the streams were held. A stream that rests because the server failed or refused counts as held: the
//!   client did its part, and the failures are in the report.
//! - Requests were dropped: the client could not send them.
//! - A thread was busy for more than 95 % of the time: beyond that, queues in the client grow without bound, and their length is a matter
//!   of chance.

use serde::{Deserialize, Serialize};

use crate::{
    calibration::Calibration,
    histograms::p99_s,
    record::Class,
    run::{HeldStreams, RunMeasurements},
};

const LEAST_HELD: f64 = 0.98;
const BUSIEST: f64 = 0.95;
/// What a run cannot see of itself, s: from the server's write to the kernel's stamp of it. On loopback the calibration finds 10 to 70 µs.
const UNSEEN_S: f64 = 0.0001;

/// Whether the client kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The figures are the server's, within the stated error.
    Valid,
    /// The figures are partly the client's.
    Invalid,
}

/// How wrong the client may be: the report's `client_error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientError {
    /// Whether the run counts.
    pub verdict: Verdict,
    /// Why not: sentences with what was found and what is expected. Empty where it is valid.
    pub reasons: Vec<String>,
    /// The bound on what the client added to TTFT's p99, s; `None` where nothing measured it.
    pub ttft_p99_s: Option<f64>,
    /// p99 of sent − intended, s; `None` for a closed loop.
    pub late_send_p99_s: Option<f64>,
    /// p99 of the lateness of the threads' loops during the run, s; `None` for a run of less than 5 ms.
    pub loop_lag_p99_s: Option<f64>,
    /// p99 of by how much the moments of first contents may be too late, s; `None` where none came.
    pub stamp_uncertainty_p99_s: Option<f64>,
}

/// How large an error may be: the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorLimits {
    /// In any case, s.
    pub floor_s: f64,
    /// As a share of the TTFT's median.
    pub share_of_ttft: f64,
    /// For late sends of an open loop, s, instead of the two above.
    pub late_send_s: Option<f64>,
}

impl Default for ErrorLimits {
    /// 2 ms or 2 %.
    fn default() -> Self {
        Self {
            floor_s: 0.002,
            share_of_ttft: 0.02,
            late_send_s: None,
        }
    }
}

impl ErrorLimits {
    fn allowed(&self, ttft_p50_s: Option<f64>) -> f64 {
        self.floor_s.max(self.share_of_ttft * ttft_p50_s.unwrap_or(0.0))
    }
}

/// Judges a run. `ttft_p50_s` is the measured median; `None` where there is none.
#[must_use]
pub fn judge(
    measurements: &RunMeasurements,
    calibration: Option<&Calibration>,
    ttft_p50_s: Option<f64>,
    limits: &ErrorLimits,
) -> ClientError {
    let loop_lag = p99_s(&measurements.loop_lag);
    let late_send = p99_s(&measurements.late_sends);
    let uncertainty = p99_s(&measurements.stamp_uncertainty);
    let own = loop_lag.into_iter().chain(uncertainty).reduce(f64::min);
    let added = own.map(|own| own.max(UNSEEN_S));
    let calibrated = calibration.map(calibrated_p99_s);
    let bound = calibrated.into_iter().chain(added).reduce(f64::max);
    let allowed = limits.allowed(ttft_p50_s);
    let allowed_lateness = limits.late_send_s.unwrap_or(allowed);
    let reasons: Vec<_> = [
        bound_reason(bound, calibrated, loop_lag, uncertainty, allowed),
        late_send.and_then(|found| late_send_reason(found, allowed_lateness)),
        measurements.streams.and_then(held_reason),
        dropped_reason(measurements.classes.of(Class::Dropped), measurements.scheduled),
        busy_reason(&measurements.cpu_shares),
    ]
    .into_iter()
    .flatten()
    .collect();
    ClientError {
        verdict: if reasons.is_empty() {
            Verdict::Valid
        } else {
            Verdict::Invalid
        },
        reasons,
        ttft_p99_s: bound,
        late_send_p99_s: late_send,
        loop_lag_p99_s: loop_lag,
        stamp_uncertainty_p99_s: uncertainty,
    }
}

/// Why a client that has only measured itself would not be believed; empty where it would.
#[must_use]
pub fn judge_calibration(calibration: &Calibration, limits: &ErrorLimits) -> Vec<String> {
    let error = calibrated_p99_s(calibration);
    let allowed = limits.allowed(None);
    let allowed_lateness = limits.late_send_s.unwrap_or(allowed);
    let late_send = calibration.late_send_p99_s;
    let reasons = [
        (error > allowed).then(|| {
            format!(
                "The client's own error of the TTFT is {} at p99; expected at most {}: use more client cores or less load.",
                millis(error),
                millis(allowed)
            )
        }),
        late_send.and_then(|found| late_send_reason(found, allowed_lateness)),
        calibration.streams.and_then(held_reason),
    ];
    reasons.into_iter().flatten().collect()
}

/// The p99 of a few requests is the largest of them, and so a matter of chance where they were stamped when they were read; their threads'
/// loops were probed hundreds of times.
fn calibrated_p99_s(calibration: &Calibration) -> f64 {
    const ENOUGH_REQUESTS: u64 = 300;
    let by_requests = calibration.ttft_error.p99_s;
    match calibration.loop_lag_p99_s {
        Some(by_loops) if calibration.requests < ENOUGH_REQUESTS => by_loops.min(by_requests),
        _ => by_requests,
    }
}

fn bound_reason(
    bound: Option<f64>,
    calibrated: Option<f64>,
    loop_lag: Option<f64>,
    uncertainty: Option<f64>,
    allowed: f64,
) -> Option<String> {
    let Some(bound) = bound else {
        return Some(
            "The client's own error is unknown: the run ended before the first probe (5 ms), and there was no \
             calibration; expected a longer run or --calibrate."
                .into(),
        );
    };
    let figure = |name: &str, value: Option<f64>| match value {
        Some(value) => format!("{name} {}", millis(value)),
        None => format!("{name} not measured"),
    };
    (bound > allowed).then(|| {
        format!(
            "The client may have added {} to the p99 of TTFT ({}, {}, {}); expected at most {}: use more client cores or less load.",
            millis(bound),
            figure("calibration", calibrated),
            figure("stamp uncertainty", uncertainty),
            figure("loop lag", loop_lag),
            millis(allowed)
        )
    })
}

fn late_send_reason(found: f64, allowed: f64) -> Option<String> {
    (found > allowed).then(|| {
        format!(
            "Requests were sent later than they were due: p99 {}; expected at most {}: use more client cores or a lower rate.",
            millis(found),
            millis(allowed)
        )
    })
}

fn held_reason(streams: HeldStreams) -> Option<String> {
    let HeldStreams {
        asked,
        in_flight,
        waiting,
    } = streams;
    let share = (in_flight + waiting) / f64::from(asked);
    (share < LEAST_HELD).then(|| {
        format!(
            "The client held {:.1} of {asked} concurrent streams ({:.1} %) on the average; expected at least {:.0} %.",
            in_flight + waiting,
            share * 100.0,
            LEAST_HELD * 100.0
        )
    })
}

fn dropped_reason(dropped: u64, scheduled: u64) -> Option<String> {
    (dropped > 0).then(|| {
        format!(
            "The client itself could not send {dropped} of {scheduled} requests (see their errors); expected none: \
             raise the limit that they name."
        )
    })
}

fn busy_reason(cpu_shares: &[f64]) -> Option<String> {
    let busiest = cpu_shares.iter().copied().reduce(f64::max)?;
    (busiest > BUSIEST).then(|| {
        format!(
            "A client thread was busy for {:.1} % of the time; expected at most {:.0} %: use more client cores.",
            busiest * 100.0,
            BUSIEST * 100.0
        )
    })
}

fn millis(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests;
