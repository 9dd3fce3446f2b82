use std::time::Duration;

use precise_time::MonotonicTime;

/// Measures how many streams one thread held on average, in a window from the end of the ramp to the last request that it began.
///
/// The window ends when a request begins, because afterwards streams end as planned.
#[derive(Debug)]
pub(super) struct StreamMeter {
    from: MonotonicTime,
    in_flight: TimeWeightedCount,
    waiting: TimeWeightedCount,
    at_ramp_end: (u32, u32),
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    to: MonotonicTime,
    in_flight_ns: u128,
    waiting_ns: u128,
}

/// The mean number of streams over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MeanStreams {
    pub(super) in_flight: f64,
    pub(super) waiting: f64,
    pub(super) window: Duration,
}

/// A count and its integral over time.
#[derive(Debug)]
struct TimeWeightedCount {
    count: u32,
    since: MonotonicTime,
    integral_ns: u128,
}

impl TimeWeightedCount {
    fn new(from: MonotonicTime) -> Self {
        Self {
            count: 0,
            since: from,
            integral_ns: 0,
        }
    }

    fn integrate(&mut self, now: MonotonicTime) {
        self.integral_ns += u128::from(self.count) * now.saturating_since(self.since).as_nanos();
        self.since = self.since.max(now);
    }

    fn add(&mut self, now: MonotonicTime) {
        self.integrate(now);
        self.count += 1;
    }

    fn remove(&mut self, now: MonotonicTime) {
        self.integrate(now);
        self.count -= 1;
    }
}

impl StreamMeter {
    pub(super) fn new(from: MonotonicTime) -> Self {
        Self {
            from,
            in_flight: TimeWeightedCount::new(from),
            waiting: TimeWeightedCount::new(from),
            at_ramp_end: (0, 0),
            window: None,
        }
    }

    pub(super) fn begin_request(&mut self, now: MonotonicTime) {
        self.in_flight.add(now);
        self.waiting.integrate(now);
        self.count_ramp(now);
        self.window = (now > self.from).then_some(Window {
            to: now,
            in_flight_ns: self.in_flight.integral_ns,
            waiting_ns: self.waiting.integral_ns,
        });
    }

    pub(super) fn end_request(&mut self, now: MonotonicTime) {
        self.in_flight.remove(now);
        self.count_ramp(now);
    }

    pub(super) fn begin_pause(&mut self, now: MonotonicTime) {
        self.waiting.add(now);
        self.count_ramp(now);
    }

    pub(super) fn end_pause(&mut self, now: MonotonicTime) {
        self.waiting.remove(now);
        self.count_ramp(now);
    }

    fn count_ramp(&mut self, now: MonotonicTime) {
        if now <= self.from {
            self.at_ramp_end = (self.in_flight.count, self.waiting.count);
        }
    }

    /// The streams when the ramp was over; also the mean afterwards where none of them ended.
    pub(super) fn at_ramp_end(&self) -> MeanStreams {
        let (in_flight, waiting) = self.at_ramp_end;
        MeanStreams {
            in_flight: in_flight.into(),
            waiting: waiting.into(),
            window: Duration::ZERO,
        }
    }

    /// `None` where no request began after the ramp.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
    pub(super) fn mean(&self) -> Option<MeanStreams> {
        let Window {
            to,
            in_flight_ns,
            waiting_ns,
        } = self.window?;
        let window = to.saturating_since(self.from);
        let window_ns = window.as_nanos() as f64;
        Some(MeanStreams {
            in_flight: in_flight_ns as f64 / window_ns,
            waiting: waiting_ns as f64 / window_ns,
            window,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> MonotonicTime {
        MonotonicTime::from_nanos(nanos)
    }

    #[test]
    fn streams_that_began_in_the_ramp_count_from_its_end() {
        let mut meter = StreamMeter::new(at(100));
        meter.begin_request(at(10));
        meter.begin_request(at(60));
        assert_eq!(meter.mean(), None);
        assert_eq!(meter.at_ramp_end().in_flight, 2.0);
        meter.end_request(at(200));
        meter.begin_pause(at(200));
        meter.end_pause(at(300));
        meter.begin_request(at(300));
        meter.end_request(at(1_000));
        let mean = meter.mean().unwrap();
        // Two for 100 ns, then one in flight and one waiting for 100 ns; everything after the last beginning is the drain.
        assert_eq!((mean.in_flight, mean.waiting), (1.5, 0.5));
        assert_eq!(mean.window, Duration::from_nanos(200));
    }
}
