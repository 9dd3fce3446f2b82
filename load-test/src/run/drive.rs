//! One thread of a run, from its first request to the end of its drain.

use std::{convert::Infallible, rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use super::{
    RunError, closed_loop, loop_lag, open_loop,
    tasks::{join_all, resume_panic},
    worker_thread::WorkerThread,
};
use crate::plan::Load;

const HAND_OVER_EVERY: Duration = Duration::from_millis(100);

/// Sends and drains; meanwhile measures the loop's lag and hands records to the journal. All tasks have ended when it returns
/// without an error.
pub(super) async fn drive(thread: Rc<WorkerThread>) -> Result<(), RunError> {
    let mut background = JoinSet::new();
    let probe = loop_lag::probe(thread.clone());
    background.spawn_local(async { probe.await.map_err(RunError::Timer) });
    background.spawn_local(hand_over(thread.clone()));
    let result = tokio::select! {
        biased;
        Some(ended) = background.join_next() => resume_panic(ended).map(|never| match never {}),
        ended = send_and_drain(&thread) => ended,
    };
    background.shutdown().await;
    result
}

async fn send_and_drain(thread: &Rc<WorkerThread>) -> Result<(), RunError> {
    let cancel = &thread.shared.cancel;
    let mut timer = Timer::new()?;
    let mut requests = JoinSet::new();
    let last_due = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        sent = send(thread, &mut requests, &mut timer) => Some(sent?),
    };
    thread.end_sending()?;
    if let Some(last_due) = last_due {
        let stop = thread.shared.plan.stop;
        // Where the number of requests ended the sending, requests may still use the rest of the sending time.
        let drain_end = (last_due.max(MonotonicTime::now()) + stop.drain).max(thread.started + stop.send_for);
        tokio::select! {
            biased;
            () = join_all(&mut requests) => {}
            () = cancel.cancelled() => {}
            passed = timer.sleep_until(drain_end) => passed?,
        }
    }
    thread.end_draining();
    join_all(&mut requests).await;
    Ok(())
}

async fn send(
    thread: &Rc<WorkerThread>,
    requests: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let shared = &thread.shared;
    match shared.plan.load {
        Load::Closed { concurrency, .. } => {
            closed_loop::send(thread, concurrency.get(), requests, timer).await
        }
        Load::Open { max_in_flight, .. } | Load::Trace { max_in_flight, .. } => {
            let arrivals = shared.arrivals()?;
            open_loop::send(thread, arrivals, max_in_flight.get(), requests, timer).await
        }
    }
}

async fn hand_over(thread: Rc<WorkerThread>) -> Result<Infallible, RunError> {
    let mut ticks = time::interval(HAND_OVER_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        thread.hand_over()?;
    }
}
