use std::{
    num::NonZeroU64,
    ops::{Add, AddAssign},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// A moment of this machine's `CLOCK_MONOTONIC`, in nanoseconds since an epoch that is the same for every process until the
/// machine restarts. An `Option` of it takes eight bytes too, so that records with many of them stay small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(NonZeroU64);

impl MonotonicTime {
    /// The current moment.
    ///
    /// # Panics
    ///
    /// When the operating system has no monotonic clock, like `std::time::Instant::now`.
    #[must_use]
    pub fn now() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "like std: nothing can be measured without this clock"
        )]
        let now =
            clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the operating system has a monotonic clock");
        Self::from_nanos(nanos(now.into()))
    }

    /// The moment `nanos` nanoseconds after the epoch; 0 becomes 1.
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

    /// The time from `earlier` to this moment; zero where `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.as_nanos().saturating_sub(earlier.as_nanos()))
    }
}

impl Add<Duration> for MonotonicTime {
    type Output = Self;

    /// The moment `duration` later, at most the last representable one (584 years after the epoch).
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for MonotonicTime {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// Saturates at 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_moment_takes_eight_bytes() {
        assert_eq!(size_of::<Option<MonotonicTime>>(), 8);
    }

    #[test]
    fn it_never_goes_back() {
        let stamps: Vec<_> = (0..1000).map(|_| MonotonicTime::now()).collect();
        assert!(stamps.is_sorted());
    }

    #[test]
    fn the_time_since_a_later_moment_is_zero() {
        let (early, late) = (MonotonicTime::from_nanos(5), MonotonicTime::from_nanos(9));
        assert_eq!(late.saturating_since(early), Duration::from_nanos(4));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn additions_end_at_the_last_moment() {
        let last = MonotonicTime::from_nanos(u64::MAX);
        assert_eq!(MonotonicTime::from_nanos(1) + Duration::MAX, last);
    }
}
