use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::MonotonicTime;

/// A reading of both clocks is used for this long.
const MAX_AGE: Duration = Duration::from_millis(10);
/// The clocks are read one after the other, so the time between the readings is the error of the offset. A smaller error is accepted
/// at once.
const SMALL_ERROR: Duration = Duration::from_micros(1);
const ATTEMPTS: u32 = 4;
/// The tolerated difference between two readings of the same moment.
const TOLERANCE: Duration = Duration::from_micros(5);

/// Converts timestamps of `CLOCK_REALTIME`, which the kernel gives to received network segments, to [`MonotonicTime`].
///
/// Both clocks run at the same rate, and their difference changes only when the wall clock is set. So the difference is read every
/// 10 ms, and immediately when a converted timestamp would be impossible.
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

    /// Converts a timestamp of `CLOCK_REALTIME`, in nanoseconds since 1970, that was taken between `earliest` and `now`.
    ///
    /// `None` where the result is not between them, because the wall clock was set meanwhile.
    pub fn monotonic(
        &self,
        timestamp_ns: i64,
        earliest: MonotonicTime,
        now: MonotonicTime,
    ) -> Option<MonotonicTime> {
        let is_fresh = now.saturating_since(self.read.get()) < MAX_AGE;
        if is_fresh && let Some(moment) = self.within(timestamp_ns, earliest, now) {
            return Some(moment);
        }
        let (offset, read) = read_offset();
        self.offset.set(offset);
        self.read.set(read);
        self.within(timestamp_ns, earliest, now)
    }

    fn within(
        &self,
        timestamp_ns: i64,
        earliest: MonotonicTime,
        now: MonotonicTime,
    ) -> Option<MonotonicTime> {
        let moment = timestamp_ns.checked_sub(self.offset.get())?;
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

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC` in ns, from the most precise of a few readings, and the time of the reading.
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
        if between < SMALL_ERROR {
            break;
        }
    }
    (closest.1, closest.2)
}

/// Nanoseconds since 1970 by `CLOCK_REALTIME`.
fn realtime_ns() -> i64 {
    #[expect(clippy::expect_used, reason = "like std: every system has this clock")]
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("the operating system has a clock on the wall");
    let since = Duration::from(now);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_converted_timestamp_lies_between_the_readings_around_it() {
        let converter = RealtimeConverter::new();
        for _ in 0..1000 {
            let before = MonotonicTime::now();
            let timestamp = realtime_ns();
            let after = MonotonicTime::now();
            let moment = converter.monotonic(timestamp, before, after).unwrap();
            assert!(before <= moment && moment <= after);
        }
    }

    #[test]
    fn a_change_of_the_wall_clock_is_noticed() {
        let converter = RealtimeConverter::new();
        let before = MonotonicTime::now();
        let hour = 3_600_000_000_000;
        // As if the clock had been set back by an hour after the offset was read.
        converter.offset.set(converter.offset.get() + hour);
        let timestamp = realtime_ns();
        let after = MonotonicTime::now();
        assert!(
            converter.monotonic(timestamp, before, after).is_some(),
            "it is read again"
        );
        // As if it had been set between the timestamp and now.
        for wrong in [timestamp - hour, timestamp + hour, i64::MIN, i64::MAX] {
            assert_eq!(converter.monotonic(wrong, before, after), None);
        }
    }
}
