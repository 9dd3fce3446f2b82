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
use llm_client::{Client, Endpoint};
use precise_time::MonotonicTime;
use shared_types::Clock;
use tokio::runtime::{self, LocalOptions};

use super::{
    BackoffWaits, ClassCounts, HeldStreams, RunError, RunMeasurements, Shared,
    drive::drive,
    thread_measurements::{PhasedHistogram, ThreadResult},
    worker_thread::WorkerThread,
};
use crate::{
    histograms::{duration_histogram, merge},
    plan::Load,
    record::Class,
};

/// `None` where the thread sent nothing, because another thread could not be started.
type Ended = Result<Option<ThreadResult>, RunError>;

/// Starts all threads at one moment and waits for them.
pub(super) fn run(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    clock: &dyn Clock,
) -> Result<RunMeasurements, RunError> {
    thread::scope(|scope| {
        let (ready, readiness) = sync_channel(shared.threads);
        let mut start = Vec::new();
        let mut handles = Vec::new();
        for number in (0..u16::MAX).take(shared.threads) {
            let (sender, started) = sync_channel(1);
            start.push(sender);
            let ready = ready.clone();
            let thread = thread::Builder::new().name(format!("load-{number}"));
            let work = move || run_thread(shared, number, endpoint, ready, &started);
            handles.push(thread.spawn_scoped(scope, work).map_err(RunError::Thread)?);
        }
        drop(ready);
        let are_all_ready = readiness.iter().count() == shared.threads;
        let started_at = clock.now();
        let started = MonotonicTime::now();
        if are_all_ready {
            for sender in &start {
                // A thread that does not receive has panicked; joining it resumes the panic.
                let _ = sender.send(started);
            }
        }
        drop(start);
        Ok(sum(shared, started_at, started, join(handles)?))
    })
}

fn run_thread(
    shared: &Arc<Shared>,
    number: u16,
    endpoint: &Endpoint,
    ready: SyncSender<()>,
    started: &Receiver<MonotonicTime>,
) -> Ended {
    // Where this thread fails or panics, the others end too.
    let end_others = shared.cancel.clone().drop_guard();
    // A `LocalSet` would be woken through a lock and a system call each time that a socket is ready.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(llm_client::before_sleep)
        .build_local(LocalOptions::default())
        .map_err(RunError::Thread)?;
    let client = Client::new(endpoint.clone(), shared.limits());
    // The starting thread receives until all senders are used or dropped.
    let _ = ready.send(());
    drop(ready);
    let Ok(started) = started.recv() else {
        return Ok(None);
    };
    let thread = Rc::new(WorkerThread::new(shared.clone(), number, client, started)?);
    runtime.block_on(drive(thread.clone()))?;
    let result = thread.end()?;
    end_others.disarm();
    Ok(Some(result))
}

fn join(handles: Vec<ScopedJoinHandle<'_, Ended>>) -> Result<Vec<ThreadResult>, RunError> {
    let ended: Vec<Ended> = handles
        .into_iter()
        .map(|handle| handle.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
        .collect();
    ended.into_iter().filter_map(Result::transpose).collect()
}

fn sum(
    shared: &Shared,
    started_at: DateTime<Utc>,
    started: MonotonicTime,
    threads: Vec<ThreadResult>,
) -> RunMeasurements {
    let mut run = RunMeasurements {
        started_at,
        started,
        ramp_end: started + shared.plan.load.ramp_up(),
        last_begun: None,
        ended: MonotonicTime::now(),
        scheduled: 0,
        classes: ClassCounts::default(),
        icl_ramp: duration_histogram(),
        icl_steady: duration_histogram(),
        loop_lag: duration_histogram(),
        stamp_uncertainty: duration_histogram(),
        late_sends: duration_histogram(),
        streams: held_streams(shared, &threads),
        backoff_waits: BackoffWaits::default(),
        cpu_shares: threads.iter().map(|thread| thread.cpu_share).collect(),
        interrupted: shared.cancel.is_cancelled(),
    };
    let mut uncertainty = PhasedHistogram::new();
    for ThreadResult {
        measurements,
        loop_lag,
        ..
    } in threads
    {
        run.last_begun = run.last_begun.max(measurements.last_begun);
        run.scheduled += measurements.scheduled;
        for class in Class::ALL {
            run.classes.count(class, measurements.classes.of(class));
        }
        merge(&mut run.icl_ramp, &measurements.chunk_gaps.ramp);
        merge(&mut run.icl_steady, &measurements.chunk_gaps.steady);
        merge(&mut run.loop_lag, &loop_lag);
        merge(&mut run.late_sends, &measurements.late_sends);
        uncertainty.merge(&measurements.first_content_uncertainty);
        run.backoff_waits.count += measurements.backoff_waits.count;
        run.backoff_waits.total += measurements.backoff_waits.total;
    }
    run.stamp_uncertainty = if uncertainty.steady.is_empty() {
        uncertainty.ramp
    } else {
        uncertainty.steady
    };
    run
}

/// An average over less time says nothing: a run of as many requests as streams sends all of them within microseconds.
const SHORTEST_WINDOW: Duration = Duration::from_millis(500);

/// `None` for an open loop, and where no thread began a request well after the ramp: then there is no window. A single thread
/// that began none held the streams of its ramp, because its requests were longer than the window.
fn held_streams(shared: &Shared, threads: &[ThreadResult]) -> Option<HeldStreams> {
    let Load::Closed { concurrency, .. } = shared.plan.load else {
        return None;
    };
    let windows = threads
        .iter()
        .filter_map(|thread| Some(thread.mean_streams?.window));
    if windows.max()? < SHORTEST_WINDOW {
        return None;
    }
    let means = || {
        threads
            .iter()
            .map(|thread| thread.mean_streams.unwrap_or(thread.streams_at_ramp_end))
    };
    Some(HeldStreams {
        asked: shared.share.streams(concurrency.get()),
        in_flight: means().map(|mean| mean.in_flight).sum(),
        waiting: means().map(|mean| mean.waiting).sum(),
    })
}
