use std::rc::Rc;

use precise_time::{MonotonicTime, Timer};
use tokio::task::JoinSet;

use super::{RunError, backoff::Backoff, listener::Listener, worker::Worker};

/// Starts this thread's streams evenly over the ramp, and returns when no further request is to be sent: the time from which
/// the drain counts.
pub(super) async fn send(
    worker: &Rc<Worker>,
    concurrency: u32,
    streams: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let plan = &worker.shared.plan;
    let until = worker.started + plan.stop.send_for;
    let ramp_up = plan.load.ramp_up();
    let sending = async {
        for position in worker.share(concurrency) {
            let due = worker.started + ramp_up.mul_f64(f64::from(position) / f64::from(concurrency));
            if due >= until {
                break;
            }
            if MonotonicTime::now() < due {
                timer.sleep_until(due).await?;
            }
            streams.spawn_local(stream(worker.clone()));
        }
        timer.sleep_until(until).await.map_err(RunError::Timer)
    };
    tokio::select! {
        biased;
        () = worker.shared.over.cancelled() => Ok(MonotonicTime::now()),
        sent = sending => sent.map(|()| until),
    }
}

/// One stream: a request, and the next the moment it ends.
async fn stream(worker: Rc<Worker>) {
    let mut listener = Listener::new(worker.clone());
    let mut backoff = Backoff::default();
    while let Some(index) = worker.ticket() {
        let outcome = worker.request(index, MonotonicTime::now(), &mut listener).await;
        if let Some(wait) = outcome.and_then(|outcome| backoff.after(&outcome)) {
            worker.rest(wait).await;
        }
    }
}
