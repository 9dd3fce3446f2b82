//! The client measures its own error: a run under the plan's load against a server in this process that reports when it wrote.
//!
//! The number of threads, concurrency or rate and arrivals, API, streaming, and the mean size of the requests' bodies are those of
//! the plan. The server answers with 32 tokens, the first after 100 ms and one every 20 ms. These times vary by request, as a real
//! server's do: otherwise streams that began together would stay synchronous. The server's own lateness is not part of the
//! client's error, which counts from the server's *write*. But the server takes CPU time of the same machine, so where cores are
//! scarce the calibration measures a larger error than the run will have.

use std::{
    io,
    num::NonZeroU32,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use llm_client::{Api, Endpoint, EndpointError, Prompt};
use mock_llm::{MockLlm, Settings};
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};
use shared_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::{
    arrivals::{TraceArrivals, TraceArrivalsError},
    evenly_spread::amount_within,
    histograms::{duration_histogram, nanos, p99_s, seconds_at},
    plan::{Load, Plan, Stop},
    record::{FinishedRequest, RequestRecord},
    run::{
        self, EncodedRequest, FileLimitError, HeldStreams, Progress, Recording, RunError, RunInputs,
        RunMeasurements, Texts, raise_file_limit,
    },
};

const TTFT: Duration = Duration::from_millis(100);
const ITL: Duration = Duration::from_millis(20);
const TOKENS: u32 = 32;
/// Standard deviation of the logarithm of the server's TTFT.
const TTFT_JITTER: f64 = 0.25;
/// A longer ramp of the plan is shortened to this.
const LONGEST_RAMP: Duration = Duration::from_secs(5);
/// Time of sending after the ramp: three requests of each stream.
const STEADY: Duration = Duration::from_millis(2_200);
/// Time limit of the last requests, which are late on a machine that cannot keep up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Capacity of the channel of finished requests, lists.
const JOURNAL: usize = 64;

/// The client's own error under a plan's load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Number of requests that were measured: all that were due after the ramp.
    pub requests: u64,
    /// The client's timestamp of the first content − the server's timestamp of its write.
    pub ttft_error: ErrorQuantiles,
    /// How late the server wrote first tokens, p99, s. Not part of the client's error.
    pub server_lateness_p99_s: Option<f64>,
    /// How late the client's loops were, p99, s.
    pub loop_lag_p99_s: Option<f64>,
    /// How much too late the timestamps of first contents may be, as the client estimates it itself, p99, s.
    pub stamp_uncertainty_p99_s: Option<f64>,
    /// Sent − intended, p99, s; `None` for a closed loop.
    pub late_send_p99_s: Option<f64>,
    /// The streams of a closed loop: asked for and held.
    pub streams: Option<HeldStreams>,
    /// Tokens per second that the server would have given to a client that takes no time.
    pub tokens_per_s_possible: f64,
    /// Tokens per second that were received.
    pub tokens_per_s_achieved: f64,
}

/// Quantiles of an error, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorQuantiles {
    /// The median.
    pub p50_s: f64,
    /// The 99th percentile.
    pub p99_s: f64,
    /// The largest.
    pub max_s: f64,
}

/// Why the calibration failed.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The server in this process did not start.
    #[error("the calibration's own server did not start")]
    Server(#[source] io::Error),
    /// Too few files may be open for client and server together.
    #[error("the calibration needs two open files for each stream")]
    FileLimit(#[from] FileLimitError),
    /// The server's address is not valid.
    #[error("the calibration's own server cannot be addressed")]
    Endpoint(#[from] EndpointError),
    /// The trace cannot be played.
    #[error("the trace cannot be played")]
    Trace(#[from] TraceArrivalsError),
    /// The run itself failed.
    #[error("the calibration's run failed")]
    Run(#[from] RunError),
    /// The calibration was interrupted.
    #[error("the calibration was interrupted")]
    Interrupted,
    /// No request was answered after the ramp.
    #[error(
        "the calibration measured nothing: of {scheduled} requests none was answered after the ramp (first error: {error})"
    )]
    Nothing {
        /// Number of requests.
        scheduled: u64,
        /// The error message of the first request that failed.
        error: Box<str>,
    },
}

/// Measures the client under `plan`'s load. Takes the plan's ramp (5 s at most), two seconds, and the time of the last requests.
///
/// `requests` and `trace` are the run's: the calibration uses the mean size of the requests and the busiest seconds of the trace.
///
/// # Errors
///
/// Where the server, the run or the machine fails, or `cancel` ends it.
pub fn calibrate(
    plan: &Plan,
    requests: &[EncodedRequest],
    trace: &[Duration],
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) -> Result<Calibration, CalibrationError> {
    let plan = calibrating(plan);
    if !plan.load.is_open_loop() {
        run::file_limit::check(u64::from(plan.load.most_in_flight()), 2, raise_file_limit()?)?;
    }
    let server = MockLlm::start(server_settings(&plan)).map_err(CalibrationError::Server)?;
    let endpoint = Endpoint::new(plan.api, &base_url(&server, plan.api), None)?;
    let request = sample_request(&endpoint, &plan, requests);
    let (journal, finished) = mpsc::sync_channel(JOURNAL);
    let inputs = RunInputs {
        trace: busiest(trace, &plan)?,
        plan: plan.clone(),
        endpoint,
        requests: Arc::new([request]),
        recording: Recording {
            texts: Texts::ToCount,
            chunk_timestamps: false,
        },
        journal,
        progress: Arc::new(Progress::new(plan.client_cores.get() as usize)),
        cancel,
        clock,
    };
    let (measurements, finished) = thread::scope(|scope| {
        let run = scope.spawn(|| run::run(inputs));
        let finished: Vec<FinishedRequest> = finished.into_iter().flatten().collect();
        let measurements = run
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        measurements.map(|measurements| (measurements, finished))
    })?;
    if measurements.interrupted {
        return Err(CalibrationError::Interrupted);
    }
    let lateness = server.stats().first_token_lateness;
    let mut calibration = summarise(&plan, &measurements, &finished)?;
    calibration.server_lateness_p99_s = lateness.p99_s;
    Ok(calibration)
}

/// The plan of the calibration: the same load, for a short time.
fn calibrating(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    if let Load::Closed { ramp_up, .. } | Load::Open { ramp_up, .. } = &mut plan.load {
        *ramp_up = (*ramp_up).min(LONGEST_RAMP);
    }
    plan.stop = Stop {
        send_for: plan.load.ramp_up() + STEADY,
        max_requests: None,
        drain: PATIENCE,
    };
    plan.request_timeout = PATIENCE;
    plan.sampling.clear();
    plan
}

fn server_settings(plan: &Plan) -> Settings {
    Settings {
        cores: plan.client_cores.get() as usize,
        ttft: TTFT,
        itl: ITL,
        ttft_jitter: TTFT_JITTER,
        output_tokens: TOKENS,
        seed: plan.seed,
        ..Settings::default()
    }
}

fn base_url(server: &MockLlm, api: Api) -> String {
    format!("http://{}{}", server.addr(), api.provider().base_path())
}

/// A request whose body has the mean size of the plan's.
fn sample_request(endpoint: &Endpoint, plan: &Plan, requests: &[EncodedRequest]) -> EncodedRequest {
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    let words = (bytes / requests.len().max(1) / "word ".len()).max(1);
    let text = "word ".repeat(words);
    let prompt_tokens = u32::try_from(words).unwrap_or(u32::MAX);
    EncodedRequest::new(endpoint, plan, Prompt::Text(&text), prompt_tokens, Some(TOKENS))
}

/// The part of a trace, as long as the calibration sends, in which most requests are due; in the trace's own time, from zero.
fn busiest(trace: &[Duration], plan: &Plan) -> Result<Arc<[Duration]>, TraceArrivalsError> {
    let Load::Trace { speed, .. } = plan.load else {
        return Ok(Arc::default());
    };
    TraceArrivals::new(trace.into(), speed)?;
    let window = plan.stop.send_for.mul_f64(speed.min(1e9));
    let until = |from: usize| trace.partition_point(|due| *due <= trace[from] + window);
    let from = (0..trace.len()).max_by_key(|from| until(*from) - from);
    let Some(from) = from else {
        return Ok(Arc::default());
    };
    Ok(trace[from..until(from)]
        .iter()
        .map(|due| *due - trace[from])
        .collect())
}

fn summarise(
    plan: &Plan,
    measurements: &RunMeasurements,
    finished: &[FinishedRequest],
) -> Result<Calibration, CalibrationError> {
    let errors_from = |from: MonotonicTime| {
        let mut errors = duration_histogram();
        for record in finished.iter().map(|finished| &finished.record) {
            let (Some(first), Some(written)) = (record.first_content, record.server_wrote_first) else {
                continue;
            };
            if record.intended >= from {
                errors.saturating_record(nanos(first.saturating_since(written)));
            }
        }
        errors
    };
    let mut errors = errors_from(measurements.ramp_end);
    if errors.is_empty() {
        // At a low rate nothing may be due in the seconds after the ramp.
        errors = errors_from(measurements.started);
    }
    if errors.is_empty() {
        let error = finished.iter().find_map(|finished| finished.error.clone());
        return Err(CalibrationError::Nothing {
            scheduled: measurements.scheduled,
            error: error.unwrap_or_else(|| "none".into()),
        });
    }
    let (possible, achieved) = tokens_per_s(plan, measurements, finished);
    Ok(Calibration {
        requests: errors.len(),
        ttft_error: quantiles(&errors),
        server_lateness_p99_s: None,
        loop_lag_p99_s: p99_s(&measurements.loop_lag),
        stamp_uncertainty_p99_s: p99_s(&measurements.stamp_uncertainty),
        late_send_p99_s: p99_s(&measurements.late_sends),
        streams: measurements.streams,
        tokens_per_s_possible: possible,
        tokens_per_s_achieved: achieved,
    })
}

fn quantiles(nanos: &Histogram<u64>) -> ErrorQuantiles {
    ErrorQuantiles {
        p50_s: seconds_at(nanos, 0.5),
        p99_s: seconds_at(nanos, 0.99),
        max_s: seconds_at(nanos, 1.0),
    }
}

/// Tokens per second in the steady window: possible with the server's times alone, and achieved. The tokens of a request are
/// assumed to come evenly from its first to its last.
fn tokens_per_s(plan: &Plan, measurements: &RunMeasurements, finished: &[FinishedRequest]) -> (f64, f64) {
    let seconds = |moment: MonotonicTime| moment.saturating_since(measurements.started).as_secs_f64();
    let ramp_end = measurements.ramp_end;
    let window = [ramp_end, measurements.last_begun.unwrap_or(ramp_end)].map(seconds);
    let window_s = window[1] - window[0];
    if window_s <= 0.0 {
        return (0.0, 0.0);
    }
    let generating = ITL * (TOKENS - 1);
    let in_window = |first: MonotonicTime, last: MonotonicTime, tokens: u32| {
        amount_within(f64::from(tokens), [first, last].map(seconds), window)
    };
    let records = || finished.iter().map(|finished| &finished.record);
    let came = |record: &RequestRecord| {
        let tokens = record.server_output_tokens.unwrap_or(record.chunks);
        in_window(record.first_content?, record.last_content?, tokens).into()
    };
    let achieved: f64 = records().filter_map(came).sum();
    let possible = match plan.load {
        Load::Closed { concurrency, .. } => per_stream(concurrency, generating) * window_s,
        Load::Open { .. } | Load::Trace { .. } => records()
            .map(|record| record.intended + TTFT)
            .map(|first| in_window(first, first + generating, TOKENS))
            .sum(),
    };
    (possible / window_s, achieved / window_s)
}

fn per_stream(concurrency: NonZeroU32, generating: Duration) -> f64 {
    f64::from(concurrency.get()) * f64::from(TOKENS) / (TTFT + generating).as_secs_f64()
}
