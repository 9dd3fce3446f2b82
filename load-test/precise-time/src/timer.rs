use std::io;

use crate::MonotonicTime;

/// Sleeps until a moment with the kernel's precision (some tens of microseconds), instead of tokio's millisecond.
///
/// On Linux it is a `timerfd` that the runtime polls together with the sockets, so its lateness equals the delay before the bytes of a
/// socket are read. On other systems it is tokio's timer.
#[derive(Debug)]
pub struct Timer(imp::Timer);

impl Timer {
    /// A timer of the current runtime.
    ///
    /// # Errors
    ///
    /// When the process may open no more files.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime that drives I/O and time.
    pub fn new() -> io::Result<Self> {
        imp::Timer::new().map(Self)
    }

    /// Waits until `at`, or returns at once when it has passed. The future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to set the timer.
    pub async fn sleep_until(&mut self, at: MonotonicTime) -> io::Result<()> {
        self.0.sleep_until(at).await
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::{
        io,
        os::fd::{AsFd, AsRawFd, RawFd},
        time::Duration,
    };

    use nix::sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    };
    use tokio::io::{Interest, unix::AsyncFd};

    use crate::MonotonicTime;

    /// nix's timer does not implement `AsRawFd`, which tokio requires.
    #[derive(Debug)]
    struct Descriptor(TimerFd);

    impl AsRawFd for Descriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<Descriptor>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            #[expect(
                unsafe_code,
                reason = "tokio requires a promise that the descriptor stays the same"
            )]
            // SAFETY: `Descriptor` owns a valid descriptor, and nothing here replaces or closes it while `AsyncFd` has it.
            let registered =
                unsafe { AsyncFd::register_with_interest(Descriptor(timer), Interest::READABLE) };
            registered.map(Self).map_err(Into::into)
        }

        pub(super) async fn sleep_until(&mut self, at: MonotonicTime) -> io::Result<()> {
            let until = TimeSpec::from(Duration::from_nanos(at.as_nanos()));
            // Setting the timer also clears an expiration that was not awaited.
            self.0
                .get_ref()
                .0
                .set(Expiration::OneShot(until), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            while MonotonicTime::now() < at {
                // The readiness may be left over from a sleep that was dropped, so the loop checks the time again.
                self.0.readable().await?.clear_ready();
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;

    use crate::MonotonicTime;

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        #[expect(clippy::unnecessary_wraps, reason = "the same as on Linux")]
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        #[expect(clippy::unnecessary_wraps, reason = "the same as on Linux")]
        pub(super) async fn sleep_until(&mut self, at: MonotonicTime) -> io::Result<()> {
            tokio::time::sleep(at.saturating_since(MonotonicTime::now())).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early() {
        let mut timer = Timer::new().unwrap();
        for micros in [0, 50, 300, 2_500] {
            let at = MonotonicTime::now() + Duration::from_micros(micros);
            timer.sleep_until(at).await.unwrap();
            assert!(MonotonicTime::now() >= at);
        }
    }

    #[tokio::test]
    async fn a_sleep_that_was_dropped_leaves_nothing_behind() {
        let mut timer = Timer::new().unwrap();
        let soon = MonotonicTime::now() + Duration::from_millis(2);
        tokio::select! {
            biased;
            // The moment may have passed already on a slow machine.
            slept = timer.sleep_until(soon) => slept.unwrap(),
            () = std::future::ready(()) => {}
        }
        // The timer expires while no future awaits it.
        std::thread::sleep(Duration::from_millis(2));
        let later = MonotonicTime::now() + Duration::from_millis(5);
        timer.sleep_until(later).await.unwrap();
        assert!(MonotonicTime::now() >= later);
    }
}
