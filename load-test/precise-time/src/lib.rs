//! Time for measurements: nanoseconds that two processes of one machine can compare, and a timer of that precision.
//!
//! [`std::time::Instant`] does not expose its number, and tokio's timers have a resolution of a millisecond. That is not enough for a
//! load test that states its own error: the calibration compares the client's timestamps with the server's, and requests have to be
//! sent exactly when they are due.

mod monotonic_time;
mod realtime;
mod timer;
mod wall_clock;

pub use monotonic_time::MonotonicTime;
pub use realtime::RealtimeConverter;
pub use timer::Timer;
pub use wall_clock::WallClockError;
