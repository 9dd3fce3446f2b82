use std::{
    panic,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use llm_client::{Client, Endpoint};
use precise_time::MonotonicTime;
use shared_types::Clock;
use tokio::runtime::{self, LocalOptions};

use super::{
    ClassCounts, HeldStreams, RunError, RunFacts, Shared, Waits,
    drive::drive,
    durations::{durations, merge},
    measured::WorkerFacts,
    worker::Worker,
};
use crate::{plan::Load, record::Class};

/// `None`: it was never started, because another thread could not be.
type Work = Result<Option<WorkerFacts>, RunError>;

/// Starts all threads at one moment and waits for them.
pub(super) fn run(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    clock: &dyn Clock,
) -> Result<RunFacts, RunError> {
    thread::scope(|scope| {
        let (ready, readiness) = sync_channel(shared.threads);
        let mut start = Vec::new();
        let mut handles = Vec::new();
        for number in (0..u16::MAX).take(shared.threads) {
            let (sender, started) = sync_channel(1);
            start.push(sender);
            let ready = ready.clone();
            let thread = thread::Builder::new().name(format!("load-{number}"));
            let work = move || work(shared, number, endpoint, ready, &started);
            handles.push(thread.spawn_scoped(scope, work).map_err(RunError::Thread)?);
        }
        drop(ready);
        let are_all_ready = readiness.iter().count() == shared.threads;
        let started_at = clock.now();
        let started = MonotonicTime::now();
        if are_all_ready {
            for sender in &start {
                // Who has gone meanwhile has panicked, and joining it tells.
                let _ = sender.send(started);
            }
        }
        drop(start);
        Ok(sum(shared, started_at, started, join(handles)?))
    })
}

fn work(
    shared: &Arc<Shared>,
    number: u16,
    endpoint: &Endpoint,
    ready: SyncSender<()>,
    started: &Receiver<MonotonicTime>,
) -> Work {
    // Whatever happens to this thread, the others do not go on without it.
    let end_others = shared.cancel.clone().drop_guard();
    // Not a `LocalSet`, which is woken through a lock and a system call each time that a socket is ready.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(llm_client::before_sleep)
        .build_local(LocalOptions::default())
        .map_err(RunError::Thread)?;
    let client = Client::new(endpoint.clone(), shared.limits());
    // The starting thread listens until all have told or gone.
    let _ = ready.send(());
    drop(ready);
    let Ok(started) = started.recv() else {
        return Ok(None);
    };
    let worker = Rc::new(Worker::new(shared.clone(), number, client, started)?);
    runtime.block_on(drive(worker.clone()))?;
    let facts = worker.end()?;
    end_others.disarm();
    Ok(Some(facts))
}

fn join(handles: Vec<ScopedJoinHandle<'_, Work>>) -> Result<Vec<WorkerFacts>, RunError> {
    let ended: Vec<Work> = handles
        .into_iter()
        .map(|handle| handle.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
        .collect();
    ended.into_iter().filter_map(Result::transpose).collect()
}

fn sum(
    shared: &Shared,
    started_at: DateTime<Utc>,
    started: MonotonicTime,
    workers: Vec<WorkerFacts>,
) -> RunFacts {
    let mut facts = RunFacts {
        started_at,
        started,
        ramp_end: started + shared.plan.load.ramp_up(),
        last_begun: None,
        ended: MonotonicTime::now(),
        scheduled: 0,
        classes: ClassCounts::default(),
        icl_ramp: durations(),
        icl_steady: durations(),
        loop_lag: durations(),
        stamp_uncertainty: stamp_uncertainty(&workers),
        late_sends: durations(),
        streams: held(shared, &workers),
        waits: Waits::default(),
        cpu_shares: workers.iter().map(|worker| worker.cpu_share).collect(),
        interrupted: shared.cancel.is_cancelled(),
    };
    for WorkerFacts {
        measured, loop_lag, ..
    } in workers
    {
        facts.last_begun = facts.last_begun.max(measured.last_begun);
        facts.scheduled += measured.scheduled;
        for class in Class::ALL {
            facts.classes.count(class, measured.classes.of(class));
        }
        merge(&mut facts.icl_ramp, &measured.icl_ramp);
        merge(&mut facts.icl_steady, &measured.icl_steady);
        merge(&mut facts.loop_lag, &loop_lag);
        merge(&mut facts.late_sends, &measured.late_sends);
        facts.waits.count += measured.waits.count;
        facts.waits.total += measured.waits.total;
    }
    facts
}

fn stamp_uncertainty(workers: &[WorkerFacts]) -> Histogram<u64> {
    let (mut ramp, mut steady) = (durations(), durations());
    for WorkerFacts { measured, .. } in workers {
        merge(&mut ramp, &measured.uncertainty_ramp);
        merge(&mut steady, &measured.uncertainty_steady);
    }
    if steady.is_empty() { ramp } else { steady }
}

/// Of less time an average says nothing: a run of as many requests as streams sends all of them within microseconds.
const SHORTEST_WINDOW: Duration = Duration::from_millis(500);

/// `None` for an open loop, and where no thread began anything well after the ramp: there is no window then. A single thread that began
/// nothing held what it had at its beginning, as its streams were longer than the window.
fn held(shared: &Shared, workers: &[WorkerFacts]) -> Option<HeldStreams> {
    let Load::Closed { concurrency, .. } = shared.plan.load else {
        return None;
    };
    let windows = workers.iter().filter_map(|worker| Some(worker.held?.window));
    if windows.max()? < SHORTEST_WINDOW {
        return None;
    }
    let held = workers
        .iter()
        .map(|worker| worker.held.unwrap_or(worker.held_at_ramp_end));
    let held: Vec<_> = held.collect();
    Some(HeldStreams {
        asked: shared.share.streams(concurrency.get()),
        in_flight: held.iter().map(|held| held.in_flight).sum(),
        waiting: held.iter().map(|held| held.waiting).sum(),
    })
}
