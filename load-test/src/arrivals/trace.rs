use std::{sync::Arc, time::Duration};

/// Why a trace cannot be played.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum TraceArrivalsError {
    /// The speed is not valid.
    #[error("trace speed {0}: expected a positive number (1 is the trace's own time)")]
    Speed(f64),
    /// The trace goes back in time.
    #[error(
        "request {index} of the trace is due at {} s, before the one before it ({} s): expected ascending times",
        at.as_secs_f64(), before.as_secs_f64()
    )]
    Unordered {
        /// Position in the trace, from 0.
        index: usize,
        /// When it is due.
        at: Duration,
        /// When the request before it is due.
        before: Duration,
    },
}

/// The due times of a trace, divided by the speed. Ends with the trace.
#[derive(Debug, Clone)]
pub struct TraceArrivals {
    offsets: Arc<[Duration]>,
    speed: f64,
    next: usize,
}

impl TraceArrivals {
    /// Arrivals at `offsets` (since the trace's start, ascending), divided by `speed`.
    ///
    /// # Errors
    ///
    /// Where the speed is no positive number, or the offsets do not ascend.
    pub fn new(offsets: Arc<[Duration]>, speed: f64) -> Result<Self, TraceArrivalsError> {
        if !(speed.is_finite() && speed > 0.0) {
            return Err(TraceArrivalsError::Speed(speed));
        }
        let back = offsets.windows(2).position(|pair| pair[1] < pair[0]);
        if let Some(position) = back {
            return Err(TraceArrivalsError::Unordered {
                index: position + 1,
                at: offsets[position + 1],
                before: offsets[position],
            });
        }
        Ok(Self {
            offsets,
            speed,
            next: 0,
        })
    }
}

impl Iterator for TraceArrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let offset = self.offsets.get(self.next)?;
        self.next += 1;
        Duration::try_from_secs_f64(offset.as_secs_f64() / self.speed).ok()
    }
}
