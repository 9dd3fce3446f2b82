//! Time for measuring: nanoseconds that two processes of one machine can compare, and a timer that keeps to them.
//!
//! [`std::time::Instant`] hides its number, and tokio's timers wake on a grid of a millisecond. Both are too little for a
//! load test that states its own error: the calibration compares the client's stamps with the server's, and requests are
//! sent when they are due, not when the grid allows it.

mod monotonic_time;
mod realtime;
mod timer;
mod wall_clock;

pub use monotonic_time::MonotonicTime;
pub use realtime::RealtimeConverter;
pub use timer::Timer;
pub use wall_clock::WallClockError;
