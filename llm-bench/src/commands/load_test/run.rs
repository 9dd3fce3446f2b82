use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use load_test::{
    display::{Display, Style, Target},
    journal::{Journal, JournalSettings, RecordedRun},
    plan::Workload,
    publish::{FinishedRequestQueue, RunFile},
    record::RequestRecord,
    run::{Progress, Recording, RunInputs, RunMeasurements, Texts, run_share},
    share_file::{ClockReading, ClockReadings},
};
use precise_time::MonotonicTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    options::LoadTest, prepare::PreparedRun, publishing::Publisher, results_dir::results_dir, start_time,
};
use crate::context::Context;

/// A run that has ended.
pub(super) struct CompletedRun {
    pub(super) run_id: String,
    pub(super) measurements: RunMeasurements,
    pub(super) recorded: RecordedRun,
    /// The wall clock before and after the run.
    pub(super) clock: ClockReadings,
}

impl CompletedRun {
    /// All requests, in the order of the schedule.
    pub(super) fn records(&self) -> &[RequestRecord] {
        &self.recorded.records
    }
}

/// Carries out the run: sends requests, records them and counts tokens.
pub(super) async fn carry_out(
    options: &LoadTest,
    context: &Context,
    prepared: &PreparedRun,
    run_id: String,
    publisher: Option<&mut Publisher>,
    stop: CancellationToken,
) -> anyhow::Result<CompletedRun> {
    let results_dir = results_dir(options)?;
    if let Some(directory) = results_dir {
        let file = RunFile {
            run_id: run_id.clone(),
            started_at: context.clock.now(),
            plan: prepared.plan.clone(),
            share: options.sharing.share,
            batches_dated: None,
        };
        file.write(directory)?;
    }
    if let Some(start_at) = options.sharing.start_at {
        start_time::wait(start_at, context, &stop).await?;
    }
    let clock_at_start = ClockReading::now();
    let settings = JournalSettings {
        directory: results_dir.map(Path::to_owned),
        record_chunks: options.results.record_chunks,
        started: MonotonicTime::now(),
    };
    let live_publisher: Option<FinishedRequestQueue> = publisher
        .map(|publisher| publisher.begin(&settings))
        .transpose()?;
    let (journal, journalling) = Journal::start(settings, live_publisher)?;
    let progress = Arc::new(Progress::new(prepared.plan.client_cores.get() as usize));
    let inputs = RunInputs {
        plan: prepared.plan.clone(),
        endpoint: prepared.endpoint.clone(),
        requests: Arc::clone(&prepared.requests),
        trace: prepared.offsets(),
        recording: Recording {
            texts: match prepared.plan.workload {
                Workload::Correctness => Texts::Answers,
                _ => Texts::ToCount,
            },
            chunk_timestamps: options.results.record_chunks,
        },
        journal,
        progress: Arc::clone(&progress),
        cancel: stop,
        clock: Arc::clone(&context.clock),
    };
    let target = Target {
        requests: prepared
            .plan
            .stop
            .max_requests
            .map(|all| prepared.share.requests(all)),
        send_for: prepared.plan.stop.send_for,
    };
    let display = Display::start(progress, target, Style::of(&std::io::stderr()))?;
    let share = prepared.share;
    let measurements = spawn_blocking(move || run_share(inputs, share)).await?;
    display.finish();
    let clock = ClockReadings {
        at_start: clock_at_start,
        at_end: ClockReading::now(),
    };
    let finished = spawn_blocking(move || journalling.finish()).await?;
    let (measurements, (recorded, _)) = (measurements?, finished?);
    let recorded = counted(recorded, prepared).await?;
    Ok(CompletedRun {
        run_id,
        measurements,
        recorded,
        clock,
    })
}

/// Counts the tokens of the texts that were kept.
async fn counted(mut recorded: RecordedRun, prepared: &PreparedRun) -> anyhow::Result<RecordedRun> {
    if prepared.plan.workload == Workload::Correctness {
        return Ok(recorded);
    }
    let tokenizer = Arc::clone(&prepared.tokenizer);
    let threads = std::thread::available_parallelism()?;
    let counting = spawn_blocking(move || {
        // A text that the vocabulary cannot encode is not counted; the report says how many are not.
        recorded.count_tokens(|text| tokenizer.count(text).ok(), threads);
        recorded
    });
    counting.await.context("counting tokens")
}
