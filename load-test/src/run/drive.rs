//! One thread of a run, from its first request to the end of its drain.

use std::{convert::Infallible, panic, rc::Rc, time::Duration};

use precise_time::{MonotonicTime, Timer};
use tokio::{
    task::{JoinError, JoinSet},
    time::{self, MissedTickBehavior},
};

use super::{RunError, closed_loop, loop_lag, open_loop, worker::Worker};
use crate::plan::Load;

const HAND_OVER_EVERY: Duration = Duration::from_millis(100);

/// Sends, drains, and looks after probe and journal meanwhile. All tasks have ended when it returns without an error.
pub(super) async fn drive(worker: Rc<Worker>) -> Result<(), RunError> {
    let mut upkeep = JoinSet::new();
    let probe = loop_lag::probe(worker.clone());
    upkeep.spawn_local(async { probe.await.map_err(RunError::Timer) });
    upkeep.spawn_local(hand_over(worker.clone()));
    let result = tokio::select! {
        biased;
        Some(ended) = upkeep.join_next() => resume_panic(ended).map(|never| match never {}),
        ended = send_and_drain(&worker) => ended,
    };
    upkeep.shutdown().await;
    result
}

async fn send_and_drain(worker: &Rc<Worker>) -> Result<(), RunError> {
    let cancel = &worker.shared.cancel;
    let mut timer = Timer::new()?;
    let mut requests = JoinSet::new();
    let last_due = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        sent = send(worker, &mut requests, &mut timer) => Some(sent?),
    };
    worker.end_sending()?;
    if let Some(last_due) = last_due {
        let stop = worker.shared.plan.stop;
        // Where a number of requests ended the sending, the time for the whole run is not over yet.
        let patience = (last_due.max(MonotonicTime::now()) + stop.drain).max(worker.started + stop.send_for);
        tokio::select! {
            biased;
            () = all_ended(&mut requests) => {}
            () = cancel.cancelled() => {}
            passed = timer.sleep_until(patience) => passed?,
        }
    }
    worker.end_draining();
    all_ended(&mut requests).await;
    Ok(())
}

async fn send(
    worker: &Rc<Worker>,
    requests: &mut JoinSet<()>,
    timer: &mut Timer,
) -> Result<MonotonicTime, RunError> {
    let shared = &worker.shared;
    match shared.plan.load {
        Load::Closed { concurrency, .. } => {
            closed_loop::send(worker, concurrency.get(), requests, timer).await
        }
        Load::Open { max_in_flight, .. } | Load::Trace { max_in_flight, .. } => {
            let arrivals = shared.arrivals()?;
            open_loop::send(worker, arrivals, max_in_flight.get(), requests, timer).await
        }
    }
}

async fn all_ended(requests: &mut JoinSet<()>) {
    while let Some(ended) = requests.join_next().await {
        resume_panic(ended);
    }
}

/// What a task gave. Its panic goes on here: tasks are never aborted, so there is no other error.
pub(super) fn resume_panic<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

async fn hand_over(worker: Rc<Worker>) -> Result<Infallible, RunError> {
    let mut ticks = time::interval(HAND_OVER_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.hand_over()?;
    }
}
