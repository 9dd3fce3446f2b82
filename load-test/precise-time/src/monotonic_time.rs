use std::{
    num::NonZeroU64,
    ops::{Add, AddAssign},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// A moment of this machine's `CLOCK_MONOTONIC`, in nanoseconds since an epoch that is the same for every process until the
/// machine restarts. An `Option` of it has eight bytes too, so that a record may hold many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(NonZeroU64);

impl MonotonicTime {
    /// The current moment.
    ///
    /// # Panics
    ///
    /// Where the operating system has no monotonic clock; `std::time::Instant::now` panics there too.
    #[must_use]
    pub fn now() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "as std does: nothing can be measured without this clock"
        )]
        let now =
            clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the operating system has a monotonic clock");
        Self::from_nanos(nanos(now.into()))
    }

    /// The moment `nanos` nanoseconds after the epoch; the epoch itself is taken for the first nanosecond.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        match NonZeroU64::new(nanos) {
            Some(nanos) => Self(nanos),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get()
    }

    /// How long after `earlier` this is; zero where it is not.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.as_nanos().saturating_sub(earlier.as_nanos()))
    }
}

impl Add<Duration> for MonotonicTime {
    type Output = Self;

    /// The moment `duration` later; the last moment there is where it lies beyond (the year 2554).
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for MonotonicTime {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// 584 years fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_pays_nothing_for_a_moment_that_never_came() {
        assert_eq!(size_of::<Option<MonotonicTime>>(), 8);
    }

    #[test]
    fn it_never_goes_back() {
        let stamps: Vec<_> = (0..1000).map(|_| MonotonicTime::now()).collect();
        assert!(stamps.is_sorted());
    }

    #[test]
    fn a_moment_before_is_zero_away() {
        let (early, late) = (MonotonicTime::from_nanos(5), MonotonicTime::from_nanos(9));
        assert_eq!(late.saturating_since(early), Duration::from_nanos(4));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn what_lies_beyond_the_last_moment_is_the_last_moment() {
        let last = MonotonicTime::from_nanos(u64::MAX);
        assert_eq!(MonotonicTime::from_nanos(1) + Duration::MAX, last);
    }
}
