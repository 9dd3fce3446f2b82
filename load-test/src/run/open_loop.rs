use std::{rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};
use tokio::task::{self, JoinSet};

use super::{RunError, drive, listener::Listener, worker::Worker};

/// A thread that is behind sends so many requests before it looks after its sockets again.
const BURST: u32 = 32;

/// Sends this thread's part of all arrivals when they are due, and returns when there are no more: the time from which the
/// drain counts. It is the last arrival of *all* threads and shares, as each of them goes through all arrivals.
pub(super) async fn send(
    worker: &Rc<Worker>,
    arrivals: Box<dyn Iterator<Item = Duration> + Send>,
    max_in_flight: u32,
    requests: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let stop = worker.shared.plan.stop;
    let share = worker.share(max_in_flight).len();
    let over_share = format!("{share} requests of this thread were in flight, its share of {max_in_flight}");
    let all = arrivals.take_while(|due| *due <= stop.send_for).zip(0_u64..);
    let mut last_due = worker.started;
    let mut burst = 0;
    for (offset, index) in all.take_while(|(_, index)| stop.max_requests.is_none_or(|max| *index < max)) {
        let due = worker.started + offset;
        last_due = due;
        if !worker.is_mine(index) {
            continue;
        }
        if MonotonicTime::now() < due {
            burst = 0;
            timer.sleep_until(due).await?;
        } else if burst == BURST {
            burst = 0;
            task::yield_now().await;
        }
        burst += 1;
        while let Some(ended) = requests.try_join_next() {
            drive::resume_panic(ended);
        }
        if requests.len() < share {
            requests.spawn_local(one(worker.clone(), index, due));
        } else {
            worker.drop_request(index, due, &over_share);
        }
    }
    Ok(last_due)
}

async fn one(worker: Rc<Worker>, index: u64, due: MonotonicTime) {
    let mut listener = Listener::new(worker.clone());
    worker.request(index, due, &mut listener).await;
}
