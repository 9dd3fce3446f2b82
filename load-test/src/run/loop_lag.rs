use std::{convert::Infallible, io, rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};

use super::worker_thread::WorkerThread;

const EVERY: Duration = Duration::from_millis(5);

/// Measures how late this thread's loop comes to what is ready: a timer, which the runtime waits for as it waits for sockets,
/// is due every 5 ms. Its lateness is the delay of a socket's bytes before they are read.
///
/// After a long stall every probe that was due during the stall is recorded with its own lateness, as every byte that arrived
/// during the stall has a delay of its own.
pub(super) async fn probe(thread: Rc<WorkerThread>) -> io::Result<Infallible> {
    let mut timer = Timer::new()?;
    let mut due = MonotonicTime::now() + EVERY;
    loop {
        timer.sleep_until(due).await?;
        thread.record_loop_lag(due, MonotonicTime::now());
        due += EVERY;
    }
}
