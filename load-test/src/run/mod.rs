//! A run: worker threads that send requests, take timestamps and record, and nothing else.
//!
//! ```text
//!                 ┌─ thread 0: runtime, connections ─ streams or arrivals ─► records ─┐ every 100 ms
//! plan, bodies ───┼─ thread 1 ...                                                     ├──────────────► journal
//!                 └─ thread N-1                          histograms ──► RunMeasurements      ┘
//! ```
//!
//! Threads share nothing per token. A **closed loop** holds its streams: each sends its next request the moment one ends, and
//! pauses only after failures ([`BackoffWaits`]). An **open loop** sends each request when it is due, whether or not the server keeps up; all
//! threads go through the same arrivals, and thread t sends numbers t, t + N, …. Of a [`Share`] of a run it sends those of the share.
//!
//! Every scheduled request ends in exactly one [`Class`](crate::record::Class).

mod backoff;
mod class_counts;
mod closed_loop;
mod cpu;
mod drive;
pub(crate) mod file_limit;
mod local_cancellation;
mod loop_lag;
mod open_loop;
mod progress;
mod request_record;
mod response_observer;
mod run_measurements;
mod stream_meter;
mod tasks;
mod thread_measurements;
mod threads;
mod worker_thread;

use std::{
    io,
    sync::{Arc, atomic::AtomicU64, mpsc::SyncSender},
    time::Duration,
};

use bytes::Bytes;
use llm_client::{Endpoint, Generation, Limits, Prompt};
use shared_types::Clock;
use tokio_util::sync::CancellationToken;

pub use self::{
    class_counts::ClassCounts,
    file_limit::{FileLimitError, raise_file_limit},
    progress::{Progress, ProgressSnapshot},
    run_measurements::{BackoffWaits, HeldStreams, RunMeasurements},
};
use crate::{
    arrivals::{Arrivals, ArrivalsError, TraceArrivals, TraceArrivalsError},
    plan::{Load, Plan},
    record::FinishedRequest,
    share::Share,
};

/// The inputs of a run.
#[derive(Debug)]
pub struct RunInputs {
    /// Decides the course of the run.
    pub plan: Plan,
    /// The server.
    pub endpoint: Endpoint,
    /// The encoded requests; request i sends entry i modulo their number.
    pub requests: Arc<[EncodedRequest]>,
    /// When each request is due, since the run's start; used by [`Load::Trace`] only.
    pub trace: Arc<[Duration]>,
    /// What is kept of responses beside their records.
    pub recording: Recording,
    /// Receives the finished requests of each thread every 100 ms. Where it is full, they wait in the thread.
    pub journal: SyncSender<Vec<FinishedRequest>>,
    /// Read by the progress display.
    pub progress: Arc<Progress>,
    /// Ends the run: nothing more is sent, and requests in flight are cancelled.
    pub cancel: CancellationToken,
    /// The wall clock that dates the run.
    pub clock: Arc<dyn Clock>,
}

/// The encoded body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRequest {
    /// From [`Endpoint::encode`].
    pub body: Bytes,
    /// Tokens of the prompt, counted when it was made.
    pub prompt_tokens: u32,
}

impl EncodedRequest {
    /// Encodes the request of a plan with this prompt.
    #[must_use]
    pub fn new(
        endpoint: &Endpoint,
        plan: &Plan,
        prompt: Prompt<'_>,
        prompt_tokens: u32,
        max_tokens: Option<u32>,
    ) -> Self {
        Self {
            body: endpoint.encode(&Generation {
                model: &plan.model,
                prompt,
                max_tokens,
                stream: plan.stream,
                sampling: &plan.sampling,
            }),
            prompt_tokens,
        }
    }
}

/// What is kept of responses beside their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Which texts are kept.
    pub texts: Texts,
    /// Whether the timestamps of all content chunks are kept.
    pub chunk_timestamps: bool,
}

/// Which texts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// Texts whose tokens are counted after the run: of the first 1000 requests, and wherever the server did not count them. They
    /// include reasoning and tool calls, which are tokens too.
    ToCount,
    /// All answers, without reasoning and tool calls, to be checked for correctness.
    Answers,
}

/// Why a run could not be started or was abandoned.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The workload has no requests.
    #[error("the workload has no requests")]
    NoRequests,
    /// The plan's arrivals are not valid.
    #[error("the arrivals cannot be made")]
    Arrivals(#[from] ArrivalsError),
    /// The trace's arrivals are not valid.
    #[error("the trace cannot be played")]
    Trace(#[from] TraceArrivalsError),
    /// Too few files may be open.
    #[error(transparent)]
    FileLimit(#[from] FileLimitError),
    /// The operating system refuses a worker thread or its runtime.
    #[error("a worker thread could not be started")]
    Thread(#[source] io::Error),
    /// The operating system refuses a timer.
    #[error("a worker thread's timer failed")]
    Timer(#[from] io::Error),
    /// The CPU time of a thread cannot be read.
    #[error("a worker thread's CPU time cannot be read")]
    CpuTime(#[from] nix::Error),
    /// The journal's receiver was dropped.
    #[error("the journal stopped before the run did")]
    Journal,
}

/// Carries out a plan. Blocks until the last request has ended and its record is handed over, at most `send_for` + `drain` and
/// the time that the threads need to end.
///
/// Raises the limit of open files first ([`raise_file_limit`]). Starts one thread for each of the plan's cores, but no more
/// than there are streams.
///
/// # Errors
///
/// Where the plan cannot be carried out, known before the first request; or where the journal's receiver or the operating system
/// fails during the run.
pub fn run(inputs: RunInputs) -> Result<RunMeasurements, RunError> {
    run_share(inputs, Share::WHOLE)
}

/// Carries out a share of the plan: every n-th request of its schedule, and every n-th stream. Records have their position in the
/// whole schedule.
///
/// # Errors
///
/// The errors of [`run`].
pub fn run_share(inputs: RunInputs, share: Share) -> Result<RunMeasurements, RunError> {
    let limit = raise_file_limit()?;
    let most = share.streams(inputs.plan.load.most_in_flight());
    if !inputs.plan.load.is_open_loop() {
        file_limit::check(u64::from(most), 1, limit)?;
    }
    if inputs.requests.is_empty() || most == 0 {
        return Err(RunError::NoRequests);
    }
    let threads = inputs.plan.client_cores.get().min(most) as usize;
    let clock = inputs.clock.clone();
    let endpoint = inputs.endpoint.clone();
    let shared = Shared::new(inputs, share, threads);
    drop(shared.arrivals()?);
    threads::run(&Arc::new(shared), &endpoint, &*clock)
}

/// The state that the threads of a run share.
struct Shared {
    plan: Plan,
    share: Share,
    requests: Arc<[EncodedRequest]>,
    trace: Arc<[Duration]>,
    recording: Recording,
    journal: SyncSender<Vec<FinishedRequest>>,
    progress: Arc<Progress>,
    threads: usize,
    /// Number of the closed loop's next request, within this share.
    next_request: AtomicU64,
    /// Cancelled when a closed loop has begun its last request.
    all_begun: CancellationToken,
    /// Ends all threads; cancelled by the caller or by a thread that fails.
    cancel: CancellationToken,
}

impl Shared {
    fn new(inputs: RunInputs, share: Share, threads: usize) -> Self {
        Self {
            plan: inputs.plan,
            share,
            requests: inputs.requests,
            trace: inputs.trace,
            recording: inputs.recording,
            journal: inputs.journal,
            progress: inputs.progress,
            threads,
            next_request: AtomicU64::new(0),
            all_begun: CancellationToken::new(),
            cancel: inputs.cancel.child_token(),
        }
    }

    fn request(&self, index: u64) -> (Bytes, u32) {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than a length")]
        let position = (index % self.requests.len() as u64) as usize;
        let request = &self.requests[position];
        (request.body.clone(), request.prompt_tokens)
    }

    /// The due times of an open loop, since the run's start; empty for a closed loop.
    fn arrivals(&self) -> Result<Box<dyn Iterator<Item = Duration> + Send>, RunError> {
        match self.plan.load {
            Load::Closed { .. } => Ok(Box::new(std::iter::empty())),
            Load::Open {
                rate,
                arrival,
                ramp_up,
                ..
            } => Ok(Box::new(Arrivals::new(arrival, rate, ramp_up, self.plan.seed)?)),
            Load::Trace { speed, .. } => Ok(Box::new(TraceArrivals::new(self.trace.clone(), speed)?)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            request_timeout: self.plan.request_timeout,
            ..Limits::default()
        }
    }
}
