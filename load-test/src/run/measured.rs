use std::time::Duration;

use hdrhistogram::Histogram;
use precise_time::MonotonicTime;

use super::{
    ClassCounts, Waits,
    cpu::CpuMeter,
    durations::{durations, merge},
    occupancy::{Held, Occupancy},
};

/// Fewer probes than that (a second's worth) give no percentile.
const ENOUGH_PROBES: u64 = 200;
/// A share of less time says nothing.
const ENOUGH_CPU_TIME: Duration = Duration::from_secs(1);

/// What one thread measures.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) scheduled: u64,
    pub(super) classes: ClassCounts,
    pub(super) icl_ramp: Histogram<u64>,
    pub(super) icl_steady: Histogram<u64>,
    pub(super) late_sends: Histogram<u64>,
    pub(super) uncertainty_ramp: Histogram<u64>,
    pub(super) uncertainty_steady: Histogram<u64>,
    pub(super) occupancy: Occupancy,
    pub(super) waits: Waits,
    pub(super) last_begun: Option<MonotonicTime>,
    lag_ramp: Histogram<u64>,
    lag_steady: Histogram<u64>,
    lag_draining: Histogram<u64>,
    ramp_end: MonotonicTime,
    cpu_start: CpuMeter,
    cpu_sent: Option<CpuMeter>,
}

/// What one thread has measured.
#[derive(Debug)]
pub(super) struct WorkerFacts {
    pub(super) measured: Measured,
    pub(super) loop_lag: Histogram<u64>,
    pub(super) cpu_share: f64,
    /// `None` where the thread began nothing after the ramp.
    pub(super) held: Option<Held>,
    pub(super) held_at_ramp_end: Held,
}

impl Measured {
    pub(super) fn start(ramp_end: MonotonicTime) -> nix::Result<Self> {
        Ok(Self {
            scheduled: 0,
            classes: ClassCounts::default(),
            icl_ramp: durations(),
            icl_steady: durations(),
            late_sends: durations(),
            uncertainty_ramp: durations(),
            uncertainty_steady: durations(),
            occupancy: Occupancy::new(ramp_end),
            waits: Waits::default(),
            last_begun: None,
            lag_ramp: durations(),
            lag_steady: durations(),
            lag_draining: durations(),
            ramp_end,
            cpu_start: CpuMeter::start()?,
            cpu_sent: None,
        })
    }

    pub(super) fn sending_ended(&mut self) -> nix::Result<()> {
        self.cpu_sent = Some(CpuMeter::start()?);
        Ok(())
    }

    /// Where a lateness belongs that was measured for `due`.
    pub(super) fn lag(&mut self, due: MonotonicTime) -> &mut Histogram<u64> {
        match self.cpu_sent {
            Some(_) => &mut self.lag_draining,
            None if due < self.ramp_end => &mut self.lag_ramp,
            None => &mut self.lag_steady,
        }
    }

    pub(super) fn end(self) -> nix::Result<WorkerFacts> {
        let cpu_end = CpuMeter::start()?;
        let sent = self
            .cpu_sent
            .filter(|sent| sent.time_since(&self.cpu_start) >= ENOUGH_CPU_TIME);
        let mut all = self.lag_steady.clone();
        merge(&mut all, &self.lag_draining);
        // Most answers may come when the last request has been sent.
        let drained_worse = all.value_at_quantile(0.99) > self.lag_steady.value_at_quantile(0.99);
        let is_short = self.lag_steady.len() < ENOUGH_PROBES;
        if is_short {
            merge(&mut all, &self.lag_ramp);
        }
        Ok(WorkerFacts {
            loop_lag: if is_short || drained_worse {
                all
            } else {
                self.lag_steady.clone()
            },
            cpu_share: sent.unwrap_or(cpu_end).share_since(&self.cpu_start),
            held: self.occupancy.held(),
            held_at_ramp_end: self.occupancy.at_ramp_end(),
            measured: self,
        })
    }
}
