use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use precise_time::MonotonicTime;

/// Measures how busy the current thread is: its CPU time over the elapsed time. On a machine without a free core this is less
/// than 1 although the thread never sleeps; the loop lag shows that case.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuMeter {
    at: MonotonicTime,
    cpu: Duration,
}

impl CpuMeter {
    pub(super) fn start() -> nix::Result<Self> {
        Ok(Self {
            at: MonotonicTime::now(),
            cpu: clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into(),
        })
    }

    /// The share of a core since `earlier`; 0 where no time has passed.
    pub(super) fn share_since(&self, earlier: &Self) -> f64 {
        let passed = self.at.saturating_since(earlier.at).as_secs_f64();
        if passed == 0.0 {
            return 0.0;
        }
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64() / passed
    }

    pub(super) fn time_since(&self, earlier: &Self) -> Duration {
        self.at.saturating_since(earlier.at)
    }
}
