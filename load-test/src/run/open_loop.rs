use std::{rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};
use tokio::task::{self, JoinSet};

use super::{RunError, tasks::resume_panic, worker_thread::WorkerThread};

/// A thread that is behind sends this many requests before it polls its sockets again.
const BURST: u32 = 32;

/// Sends this thread's arrivals when they are due, and returns when there are no more: the time from which the drain counts.
/// It is the last arrival of *all* threads and shares, because each of them iterates over all arrivals.
pub(super) async fn send(
    thread: &Rc<WorkerThread>,
    arrivals: Box<dyn Iterator<Item = Duration> + Send>,
    max_in_flight: u32,
    requests: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let stop = thread.shared.plan.stop;
    let max_of_thread = thread.share(max_in_flight).len();
    let too_many =
        format!("{max_of_thread} requests of this thread were in flight, its share of {max_in_flight}");
    let all = arrivals.take_while(|due| *due <= stop.send_for).zip(0_u64..);
    let mut last_due = thread.started;
    let mut burst = 0;
    for (offset, index) in all.take_while(|(_, index)| stop.max_requests.is_none_or(|max| *index < max)) {
        let due = thread.started + offset;
        last_due = due;
        if !thread.is_mine(index) {
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
            resume_panic(ended);
        }
        if requests.len() < max_of_thread {
            requests.spawn_local(request(thread.clone(), index, due));
        } else {
            thread.drop_request(index, due, &too_many);
        }
    }
    Ok(last_due)
}

async fn request(thread: Rc<WorkerThread>, index: u64, due: MonotonicTime) {
    let mut observer = thread.observer();
    thread.request(index, due, &mut observer).await;
}
