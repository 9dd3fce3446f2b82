use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use load_test::{
    display::{Display, Style, Target},
    journal::{Journal, Recorded, Settings},
    plan::Workload,
    publish::{Feed, RunFile},
    run::{Progress, Recording, RunInputs, RunMeasurements, Texts, run_share},
    share_file::{ClockReading, ClockReadings},
};
use precise_time::MonotonicTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{Ready, options::LoadTest, publishing::Publisher, share};
use crate::context::Context;

/// What is left of a run.
pub(super) struct Ended {
    pub(super) run_id: String,
    pub(super) facts: RunMeasurements,
    pub(super) recorded: Recorded,
    /// The wall clock before and after the run.
    pub(super) clock: ClockReadings,
    /// What did not get into the pipeline, where that was asked for.
    pub(super) publication: Option<anyhow::Result<load_test::publish::Published>>,
}

/// Sends, records and counts.
pub(super) async fn carry_out(
    options: &LoadTest,
    context: &Context,
    ready: &Ready,
    run_id: String,
    publisher: Option<&mut Publisher>,
    stop: CancellationToken,
) -> anyhow::Result<Ended> {
    let results_dir = results_dir(options)?;
    if let Some(directory) = results_dir {
        let file = RunFile {
            run_id: run_id.clone(),
            started_at: context.clock.now(),
            plan: ready.plan.clone(),
            share: options.sharing.share,
            batches_dated: None,
        };
        file.write(directory)?;
    }
    if let Some(start_at) = options.sharing.start_at {
        share::wait_until(start_at, context, &stop).await?;
    }
    let clock_at_start = ClockReading::now();
    let settings = Settings {
        directory: results_dir.map(Path::to_owned),
        record_chunks: options.results.record_chunks,
        started: MonotonicTime::now(),
    };
    let feed: Option<Feed> = publisher
        .map(|publisher| publisher.begin(&settings))
        .transpose()?;
    let (journal, journalling) = Journal::start(settings, feed)?;
    let progress = Arc::new(Progress::new(ready.plan.client_cores.get() as usize));
    let inputs = RunInputs {
        plan: ready.plan.clone(),
        endpoint: ready.endpoint.clone(),
        requests: Arc::clone(&ready.requests),
        trace: ready.offsets(),
        recording: Recording {
            texts: match ready.plan.workload {
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
        requests: ready.plan.stop.max_requests.map(|all| ready.share.requests(all)),
        send_for: ready.plan.stop.send_for,
    };
    let display = Display::start(progress, target, Style::of(&std::io::stderr()))?;
    let ready_share = ready.share;
    let facts = spawn_blocking(move || run_share(inputs, ready_share)).await?;
    display.finish();
    let clock = ClockReadings {
        at_start: clock_at_start,
        at_end: ClockReading::now(),
    };
    let finished = spawn_blocking(move || journalling.finish()).await?;
    let (facts, (recorded, _)) = (facts?, finished?);
    let recorded = counted(recorded, ready).await?;
    Ok(Ended {
        run_id,
        facts,
        recorded,
        clock,
        publication: None,
    })
}

/// Counts the tokens that no server counted, and those of the sample.
async fn counted(mut recorded: Recorded, ready: &Ready) -> anyhow::Result<Recorded> {
    if ready.plan.workload == Workload::Correctness {
        return Ok(recorded);
    }
    let tokenizer = Arc::clone(&ready.tokenizer);
    let threads = std::thread::available_parallelism()?;
    let counting = spawn_blocking(move || {
        // A text that the vocabulary refuses stays uncounted: the report says how many are.
        recorded.count_tokens(|text| tokenizer.count(text).ok(), threads);
        recorded
    });
    counting.await.context("counting tokens")
}

/// The directory for the results, made where it is missing; `None` where nothing is to be written.
pub(super) fn results_dir(options: &LoadTest) -> anyhow::Result<Option<&Path>> {
    let directory = Path::new(&options.results_dir);
    if directory.as_os_str().is_empty() {
        return Ok(None);
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("--results-dir: cannot make {}", directory.display()))?;
    Ok(Some(directory))
}

/// A UUIDv7: runs sort by their start.
pub(super) fn new_run_id(context: &Context) -> anyhow::Result<String> {
    use rand::TryRng as _;
    let mut random = [0; 10];
    rand::rngs::SysRng
        .try_fill_bytes(&mut random)
        .context("drawing the run's id")?;
    Ok(shared_types::BatchId::new(context.clock.now(), random).to_string())
}
