use std::{convert::Infallible, io, rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};

use super::worker::Worker;

const EVERY: Duration = Duration::from_millis(5);

/// Measures how late this thread's loop comes to what is ready: a timer, which the runtime waits for as it waits for sockets,
/// is due every 5 ms. So its lateness is what a socket's bytes suffer before they are read and stamped.
///
/// After a long stall every probe that was due in it is recorded with its own lateness, as every byte that came in it would
/// have had its own.
pub(super) async fn probe(worker: Rc<Worker>) -> io::Result<Infallible> {
    let mut timer = Timer::new()?;
    let mut due = MonotonicTime::now() + EVERY;
    loop {
        timer.sleep_until(due).await?;
        worker.loop_was_late(due, MonotonicTime::now());
        due += EVERY;
    }
}
