use std::time::Duration;

use hdrhistogram::Histogram;
use precise_time::MonotonicTime;

use super::{
    BackoffWaits, ClassCounts,
    cpu::CpuMeter,
    stream_meter::{MeanStreams, StreamMeter},
};
use crate::histograms::{self, duration_histogram, nanos};

/// Fewer loop probes than this (one second of them) are too few for a 99th percentile.
const ENOUGH_PROBES: u64 = 200;
/// A CPU share over less time is not meaningful.
const ENOUGH_CPU_TIME: Duration = Duration::from_secs(1);

/// Durations in nanoseconds, those of the ramp apart.
#[derive(Debug)]
pub(super) struct PhasedHistogram {
    pub(super) ramp: Histogram<u64>,
    pub(super) steady: Histogram<u64>,
}

impl PhasedHistogram {
    pub(super) fn new() -> Self {
        Self {
            ramp: duration_histogram(),
            steady: duration_histogram(),
        }
    }

    fn record(&mut self, is_ramp: bool, duration: Duration) {
        let phase = if is_ramp { &mut self.ramp } else { &mut self.steady };
        phase.saturating_record(nanos(duration));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        histograms::merge(&mut self.ramp, &other.ramp);
        histograms::merge(&mut self.steady, &other.steady);
    }
}

/// What one thread measures while the run goes on.
#[derive(Debug)]
pub(super) struct ThreadMeasurements {
    pub(super) scheduled: u64,
    pub(super) classes: ClassCounts,
    pub(super) chunk_gaps: PhasedHistogram,
    pub(super) first_content_uncertainty: PhasedHistogram,
    pub(super) late_sends: Histogram<u64>,
    pub(super) streams: StreamMeter,
    pub(super) backoff_waits: BackoffWaits,
    pub(super) last_begun: Option<MonotonicTime>,
    /// Chunks that the progress display does not know of yet.
    pub(super) unreported_chunks: u64,
    loop_lag: PhasedHistogram,
    loop_lag_draining: Histogram<u64>,
    ramp_end: MonotonicTime,
    cpu_at_start: CpuMeter,
    cpu_at_sending_end: Option<CpuMeter>,
}

/// What one thread has measured when it has ended.
#[derive(Debug)]
pub(super) struct ThreadResult {
    pub(super) measurements: ThreadMeasurements,
    pub(super) loop_lag: Histogram<u64>,
    pub(super) cpu_share: f64,
    /// `None` where the thread began no request after the ramp.
    pub(super) mean_streams: Option<MeanStreams>,
    pub(super) streams_at_ramp_end: MeanStreams,
}

impl ThreadMeasurements {
    pub(super) fn start(ramp_end: MonotonicTime) -> nix::Result<Self> {
        Ok(Self {
            scheduled: 0,
            classes: ClassCounts::default(),
            chunk_gaps: PhasedHistogram::new(),
            first_content_uncertainty: PhasedHistogram::new(),
            late_sends: duration_histogram(),
            streams: StreamMeter::new(ramp_end),
            backoff_waits: BackoffWaits::default(),
            last_begun: None,
            unreported_chunks: 0,
            loop_lag: PhasedHistogram::new(),
            loop_lag_draining: duration_histogram(),
            ramp_end,
            cpu_at_start: CpuMeter::start()?,
            cpu_at_sending_end: None,
        })
    }

    /// A chunk with content was received at `at`. `previous` is the chunk before it in the same response; `None` where the gap
    /// is not to be measured.
    pub(super) fn record_chunk(&mut self, at: MonotonicTime, previous: Option<MonotonicTime>) {
        self.unreported_chunks += 1;
        if let Some(previous) = previous {
            let gap = at.saturating_since(previous);
            self.chunk_gaps.record(at < self.ramp_end, gap);
        }
    }

    /// `uncertainty` is how much too late the timestamp of the first content may be, of the request that was due at `intended`.
    pub(super) fn record_first_content_uncertainty(
        &mut self,
        intended: MonotonicTime,
        uncertainty: Duration,
    ) {
        self.first_content_uncertainty
            .record(intended < self.ramp_end, uncertainty);
    }

    /// The loop came at `now` to what was due at `due`.
    pub(super) fn record_loop_lag(&mut self, due: MonotonicTime, now: MonotonicTime) {
        let lag = now.saturating_since(due);
        if self.cpu_at_sending_end.is_some() {
            self.loop_lag_draining.saturating_record(nanos(lag));
        } else {
            self.loop_lag.record(due < self.ramp_end, lag);
        }
    }

    pub(super) fn sending_ended(&mut self) -> nix::Result<()> {
        self.cpu_at_sending_end = Some(CpuMeter::start()?);
        Ok(())
    }

    pub(super) fn end(self) -> nix::Result<ThreadResult> {
        let cpu_end = CpuMeter::start()?;
        let sending_end = self
            .cpu_at_sending_end
            .filter(|end| end.time_since(&self.cpu_at_start) >= ENOUGH_CPU_TIME);
        Ok(ThreadResult {
            loop_lag: self.relevant_loop_lag(),
            cpu_share: sending_end.unwrap_or(cpu_end).share_since(&self.cpu_at_start),
            mean_streams: self.streams.mean(),
            streams_at_ramp_end: self.streams.at_ramp_end(),
            measurements: self,
        })
    }

    /// The lag between the ramp and the end of sending. The lag while draining is added where it was larger, because most
    /// responses may arrive after the last request was sent; the ramp's is added where there are too few probes.
    fn relevant_loop_lag(&self) -> Histogram<u64> {
        let steady = &self.loop_lag.steady;
        let mut all = steady.clone();
        histograms::merge(&mut all, &self.loop_lag_draining);
        if steady.len() < ENOUGH_PROBES {
            histograms::merge(&mut all, &self.loop_lag.ramp);
            return all;
        }
        let was_larger_draining = all.value_at_quantile(0.99) > steady.value_at_quantile(0.99);
        if was_larger_draining { all } else { steady.clone() }
    }
}
