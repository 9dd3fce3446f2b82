use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::MonotonicTime;

/// How old a reading of both clocks may be.
const FRESH: Duration = Duration::from_millis(10);
/// Both clocks are read one after the other; what is between the two readings is the error. Less than this is good enough.
const CLOSE: Duration = Duration::from_micros(1);
const ATTEMPTS: u32 = 4;
/// What two readings of the same moment may differ by.
const TOLERANCE: Duration = Duration::from_micros(5);

/// Tells when something was by [`MonotonicTime`] that the kernel has stamped with `CLOCK_REALTIME`, as it does received segments
/// of a network.
///
/// Both clocks run at the same rate; their difference changes only where somebody sets the wall clock. So it is read every 10 ms,
/// and at once where a stamp would lie outside of what is possible.
#[derive(Debug)]
pub struct RealtimeConverter {
    offset: Cell<i64>,
    read: Cell<MonotonicTime>,
}

impl RealtimeConverter {
    /// Reads both clocks.
    #[must_use]
    pub fn new() -> Self {
        let (offset, read) = read_offset();
        Self {
            offset: Cell::new(offset),
            read: Cell::new(read),
        }
    }

    /// The moment of a stamp of `CLOCK_REALTIME`, in nanoseconds since 1970, that was made between `earliest` and `now`.
    ///
    /// `None` where it was not: the wall clock was set in between.
    pub fn monotonic(
        &self,
        stamp_ns: i64,
        earliest: MonotonicTime,
        now: MonotonicTime,
    ) -> Option<MonotonicTime> {
        let is_fresh = now.saturating_since(self.read.get()) < FRESH;
        if is_fresh && let Some(moment) = self.within(stamp_ns, earliest, now) {
            return Some(moment);
        }
        let (offset, read) = read_offset();
        self.offset.set(offset);
        self.read.set(read);
        self.within(stamp_ns, earliest, now)
    }

    fn within(&self, stamp_ns: i64, earliest: MonotonicTime, now: MonotonicTime) -> Option<MonotonicTime> {
        let moment = stamp_ns.checked_sub(self.offset.get())?;
        let moment = MonotonicTime::from_nanos(u64::try_from(moment).ok()?);
        let is_possible =
            earliest.saturating_since(moment) <= TOLERANCE && moment.saturating_since(now) <= TOLERANCE;
        is_possible.then(|| moment.max(earliest).min(now))
    }
}

impl Default for RealtimeConverter {
    fn default() -> Self {
        Self::new()
    }
}

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, ns, from the closest of a few readings.
fn read_offset() -> (i64, MonotonicTime) {
    let mut closest = (Duration::MAX, 0, MonotonicTime::now());
    for _ in 0..ATTEMPTS {
        let before = MonotonicTime::now();
        let realtime = realtime_ns();
        let after = MonotonicTime::now();
        let between = after.saturating_since(before);
        if between < closest.0 {
            let middle = before + between / 2;
            let monotonic = i64::try_from(middle.as_nanos()).unwrap_or(i64::MAX);
            closest = (between, realtime.saturating_sub(monotonic), after);
        }
        if between < CLOSE {
            break;
        }
    }
    (closest.1, closest.2)
}

/// Nanoseconds since 1970 by `CLOCK_REALTIME`.
fn realtime_ns() -> i64 {
    #[expect(clippy::expect_used, reason = "as std does: there is always this clock")]
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("the operating system has a clock on the wall");
    let since = Duration::from(now);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_lies_between_the_readings_around_it() {
        let stamps = RealtimeConverter::new();
        for _ in 0..1000 {
            let before = MonotonicTime::now();
            let stamp = realtime_ns();
            let after = MonotonicTime::now();
            let moment = stamps.monotonic(stamp, before, after).unwrap();
            assert!(before <= moment && moment <= after);
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_is_noticed() {
        let stamps = RealtimeConverter::new();
        let before = MonotonicTime::now();
        let hour = 3_600_000_000_000;
        // As if the clock had been set back by an hour after the offset was read.
        stamps.offset.set(stamps.offset.get() + hour);
        let stamp = realtime_ns();
        let after = MonotonicTime::now();
        assert!(
            stamps.monotonic(stamp, before, after).is_some(),
            "it is read again"
        );
        // As if it had been set between the stamp and now.
        for wrong in [stamp - hour, stamp + hour, i64::MIN, i64::MAX] {
            assert_eq!(stamps.monotonic(wrong, before, after), None);
        }
    }
}
