//! The verdict: whether a run's figures can be trusted. A bound on the client's own error, and the reasons where it is too large.
//!
//! # The bound
//!
//! A TTFT is the difference of two timestamps. *Sent* is taken just before the system call that writes. *First content* is the
//! kernel's time of receipt of its bytes, where the kernel reports one. Both exclude the client's own delays. Where more content
//! arrived before the read, or the kernel reported no time, *first content* may be too late, and never too early. There are three
//! measurements of how much:
//!
//! - **Stamp uncertainty**: for each request of the run, the time since its socket was last found empty
//!   ([`llm_client::Exchange::first_content_uncertainty`]); zero where the kernel's time is that of the first content alone.
//! - **Loop lag**: during the run, a timer in each thread measures every 5 ms how late the thread's loop comes to what is ready. It
//!   is another bound of the same error, so the smaller of the two 99th percentiles counts.
//! - **Calibration**: before the run, the same client under the same load measures a server that reports when it wrote. It includes
//!   everything from that write to the client's timestamp, for each request, but at another time than the run.
//!
//! Only a calibration includes the time that the kernel takes until it records the receipt; a run assumes at least 0.1 ms.
//!
//! The bound on TTFT's p99 is the larger of the calibration's and the run's own. The error has one sign: true values may be smaller
//! by this much, but not larger.
//!
//! # What makes a run invalid
//!
//! - The bound exceeds 2 ms and 2 % of the TTFT's median ([`ErrorLimits`]): the figures would partly be the client's.
//! - Open loop: requests were sent later than they were due, by more than the same limit. The load was not the one that was asked for.
//! - Closed loop: fewer than 98 % of the streams were held. A stream that pauses because the server failed or refused counts as held:
//!   the client is not the cause, and the failures are in the report.
//! - Requests were dropped: the client could not send them.
//! - A thread was busy for more than 95 % of the time: beyond that, queues in the client grow without bound.

use serde::{Deserialize, Serialize};

use crate::{
    calibration::Calibration,
    histograms::p99_s,
    record::Class,
    run::{HeldStreams, RunMeasurements},
};

const LEAST_HELD: f64 = 0.98;
const BUSIEST: f64 = 0.95;
/// The part of the error that a run cannot measure itself, s: from the server's write to the kernel's time of receipt. On loopback
/// the calibration measures 10 to 70 µs.
const UNSEEN_S: f64 = 0.0001;

/// Whether a run's figures can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The figures are the server's, within the stated client error.
    Valid,
    /// The client's own delays are part of the figures.
    Invalid,
}

/// The client's own error: the report's `client_error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientError {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the run is invalid: sentences with what was found and what is expected. Empty where it is valid.
    pub reasons: Vec<String>,
    /// The bound on the time that the client added to TTFT's p99, s; `None` where nothing measured it.
    pub ttft_p99_s: Option<f64>,
    /// p99 of sent − intended, s; `None` for a closed loop.
    pub late_send_p99_s: Option<f64>,
    /// p99 of the lateness of the threads' loops during the run, s; `None` for a run of less than 5 ms.
    pub loop_lag_p99_s: Option<f64>,
    /// p99 of how much too late the timestamps of first contents may be, s; `None` where there were none.
    pub stamp_uncertainty_p99_s: Option<f64>,
}

/// How large the client's error may be: the larger of a fixed and a relative limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorLimits {
    /// The fixed limit, s.
    pub floor_s: f64,
    /// The relative limit, as a share of the TTFT's median.
    pub share_of_ttft: f64,
    /// The limit for late sends of an open loop, s; `None`: the same as for the TTFT.
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

/// The verdict on a run. `ttft_p50_s` is the measured median; `None` where there is none.
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

/// Why a calibration alone is invalid; empty where it is valid.
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

/// The p99 of the TTFT's error. With few requests it is the largest of them, which is a matter of chance; the threads' loops are
/// probed hundreds of times, so then the smaller of both is used.
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
