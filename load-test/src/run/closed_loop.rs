use std::rc::Rc;

use precise_time::{MonotonicTime, Timer};
use tokio::task::JoinSet;

use super::{RunError, backoff::Backoff, worker_thread::WorkerThread};

/// Starts this thread's streams evenly over the ramp, and returns when no further request is to be sent: the time from which
/// the drain counts.
pub(super) async fn send(
    thread: &Rc<WorkerThread>,
    concurrency: u32,
    streams: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let plan = &thread.shared.plan;
    let until = thread.started + plan.stop.send_for;
    let ramp_up = plan.load.ramp_up();
    let sending = async {
        for position in thread.share(concurrency) {
            let due = thread.started + ramp_up.mul_f64(f64::from(position) / f64::from(concurrency));
            if due >= until {
                break;
            }
            if MonotonicTime::now() < due {
                timer.sleep_until(due).await?;
            }
            streams.spawn_local(stream(thread.clone()));
        }
        timer.sleep_until(until).await.map_err(RunError::Timer)
    };
    tokio::select! {
        biased;
        () = thread.shared.all_begun.cancelled() => Ok(MonotonicTime::now()),
        sent = sending => sent.map(|()| until),
    }
}

/// One stream: sends a request, and the next one the moment it ends.
async fn stream(thread: Rc<WorkerThread>) {
    let mut observer = thread.observer();
    let mut backoff = Backoff::default();
    while let Some(index) = thread.next_index() {
        let outcome = thread.request(index, MonotonicTime::now(), &mut observer).await;
        if let Some(pause) = outcome.and_then(|outcome| backoff.after(&outcome)) {
            thread.pause(pause).await;
        }
    }
}
