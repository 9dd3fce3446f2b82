use std::time::Duration;

use precise_time::MonotonicTime;

/// How many streams one thread held, on the average of a window from the end of the ramp to the last request that it began.
///
/// The window ends with a beginning because from then on streams end and are meant to.
#[derive(Debug)]
pub(super) struct Occupancy {
    from: MonotonicTime,
    in_flight: Level,
    waiting: Level,
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
pub(super) struct Held {
    pub(super) in_flight: f64,
    pub(super) waiting: f64,
    pub(super) window: Duration,
}

/// A count and its integral over time.
#[derive(Debug)]
struct Level {
    count: u32,
    since: MonotonicTime,
    integral_ns: u128,
}

impl Level {
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

    fn take(&mut self, now: MonotonicTime) {
        self.integrate(now);
        self.count -= 1;
    }
}

impl Occupancy {
    pub(super) fn new(from: MonotonicTime) -> Self {
        Self {
            from,
            in_flight: Level::new(from),
            waiting: Level::new(from),
            at_ramp_end: (0, 0),
            window: None,
        }
    }

    pub(super) fn begin(&mut self, now: MonotonicTime) {
        self.in_flight.add(now);
        self.waiting.integrate(now);
        self.count_ramp(now);
        self.window = (now > self.from).then_some(Window {
            to: now,
            in_flight_ns: self.in_flight.integral_ns,
            waiting_ns: self.waiting.integral_ns,
        });
    }

    pub(super) fn end(&mut self, now: MonotonicTime) {
        self.in_flight.take(now);
        self.count_ramp(now);
    }

    pub(super) fn begin_waiting(&mut self, now: MonotonicTime) {
        self.waiting.add(now);
        self.count_ramp(now);
    }

    pub(super) fn end_waiting(&mut self, now: MonotonicTime) {
        self.waiting.take(now);
        self.count_ramp(now);
    }

    fn count_ramp(&mut self, now: MonotonicTime) {
        if now <= self.from {
            self.at_ramp_end = (self.in_flight.count, self.waiting.count);
        }
    }

    /// Streams in flight and waiting when the ramp was over: what was held afterwards where none of them ended.
    pub(super) fn at_ramp_end(&self) -> Held {
        let (in_flight, waiting) = self.at_ramp_end;
        Held {
            in_flight: in_flight.into(),
            waiting: waiting.into(),
            window: Duration::ZERO,
        }
    }

    /// `None` where no request began after the ramp.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
    pub(super) fn held(&self) -> Option<Held> {
        let Window {
            to,
            in_flight_ns,
            waiting_ns,
        } = self.window?;
        let window = to.saturating_since(self.from);
        let window_ns = window.as_nanos() as f64;
        Some(Held {
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
    fn what_began_in_the_ramp_is_held_from_its_end() {
        let mut occupancy = Occupancy::new(at(100));
        occupancy.begin(at(10));
        occupancy.begin(at(60));
        assert_eq!(occupancy.held(), None);
        assert_eq!(occupancy.at_ramp_end().in_flight, 2.0);
        occupancy.end(at(200));
        occupancy.begin_waiting(at(200));
        occupancy.end_waiting(at(300));
        occupancy.begin(at(300));
        occupancy.end(at(1_000));
        let held = occupancy.held().unwrap();
        // Two for 100 ns, then one in flight and one waiting for 100 ns; what comes after the last beginning is the drain.
        assert_eq!((held.in_flight, held.waiting), (1.5, 0.5));
        assert_eq!(held.window, Duration::from_nanos(200));
    }
}
