use std::time::Duration;

/// How far the wall clock may be from the true time, as the kernel has it from whatever disciplines the clock (NTP, PTP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClockError {
    /// Whether something keeps the clock synchronised. Where nothing does, the two errors mean nothing.
    pub is_synchronised: bool,
    /// The bound that the time source states; the kernel adds 0.5 ms to it for each second since.
    pub maximum: Duration,
    /// The time source's own estimate, without a guarantee.
    pub estimated: Duration,
}

impl WallClockError {
    /// Asks the kernel (`adjtimex`); `None` on a system that cannot say.
    #[must_use]
    pub fn now() -> Option<Self> {
        imp::now()
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::{mem::MaybeUninit, time::Duration};

    use nix::libc;

    use super::WallClockError;

    pub(super) fn now() -> Option<WallClockError> {
        let mut state = MaybeUninit::<libc::timex>::zeroed();
        #[expect(unsafe_code, reason = "nix does not have this system call")]
        // SAFETY: all zeros is a valid `timex`, whose `modes` of 0 only reads; the kernel writes into it and keeps no pointer.
        let (status, state) = unsafe { (libc::adjtimex(state.as_mut_ptr()), state.assume_init()) };
        let micros = |value| u64::try_from(value).ok().map(Duration::from_micros);
        // A status of -1 is an error; all others are states of the clock.
        (status >= 0).then_some(WallClockError {
            is_synchronised: state.status & libc::STA_UNSYNC == 0,
            maximum: micros(state.maxerror)?,
            estimated: micros(state.esterror)?,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::WallClockError;

    pub(super) fn now() -> Option<WallClockError> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_clock() {
        let error = WallClockError::now().unwrap();
        assert!(error.maximum <= Duration::from_secs(16), "{error:?}");
        assert!(error.estimated <= Duration::from_secs(16), "{error:?}");
    }
}
