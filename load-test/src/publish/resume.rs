use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;
use shared_types::{LlmName, RunId};
use tokio::time::sleep;

use super::{
    PUBLISHED_FILE, PublishError, Published, RunFile, Sink,
    cuts::{Counting, Cut, Origin, Portion, VALUES_PER_CUT},
    log::{Log, lines},
    publication::Publication,
    run_metadata,
};
use crate::{
    journal::{REQUESTS_FILE, RequestLine},
    record::RequestRecord,
};

/// Publishes what a results directory holds: every cut that was written down once more, under the same ids, and then what no
/// cut holds yet. Whatever had arrived before counts once, so it may be called again and again.
///
/// # Errors
/// The directory holds no run, or something else; another process publishes it; the sink refuses, or takes
/// nothing for all of `patience`.
pub async fn resume(
    directory: &Path,
    sink: &dyn Sink,
    now: DateTime<Utc>,
    patience: Duration,
) -> Result<Published, PublishError> {
    let run = RunFile::read(directory)?;
    let now = run.batches_dated.unwrap_or(now);
    // Before anything is read: another process would make other cuts of the same requests.
    let log = Log::open(Some(directory))?;
    let left_out = sink.register_metrics().await?;
    // Only distances count; a request may have been due before the run's start.
    let started = MonotonicTime::from_nanos(1 << 62);
    let ended = lines(&directory.join(REQUESTS_FILE), |line| {
        Ok(serde_json::from_slice::<RequestLine<'_>>(line)?.record(started))
    })?;
    let cuts: Vec<Cut> = lines(&directory.join(PUBLISHED_FILE), |line| {
        serde_json::from_slice(line)
    })?;
    let mut scheduled: Vec<RequestRecord> = ended.clone();
    scheduled.sort_by_key(|record| record.index);
    let counting = Counting {
        warmup_requests: run.plan.warmup_requests,
        from: started + run.plan.load.ramp_up(),
        is_streamed: run.plan.stream,
    };
    let origin = Origin {
        llm: LlmName::new(&run.plan.model)?,
        run_id: RunId::new(&run.run_id)?,
        metadata: run_metadata(&run.plan)?,
        left_out,
    };
    let mut publication = Publication::new(origin, counting, log, &cuts);
    for cut in &cuts {
        publication.queue(cut, cut.portion.of(&ended, &scheduled))?;
        publication.send(sink, sleep(patience)).await?;
    }
    for portion in uncut(&cuts, ended.len()) {
        publication.cut(portion, portion.of(&ended, &scheduled), now)?;
        publication.send(sink, sleep(patience)).await?;
    }
    publication.rest(sink, &scheduled, &cuts, now, patience).await?;
    Ok(publication.published())
}

/// What no cut holds of so many requests that have ended.
fn uncut(cuts: &[Cut], ended: usize) -> impl Iterator<Item = Portion> {
    let last = |cut: &Cut| match cut.portion {
        Portion::Ended { to, .. } => Some(to),
        Portion::Counted { .. } | Portion::Ramp { .. } | Portion::Rates => None,
    };
    let first = cuts.iter().filter_map(last).max().unwrap_or(0);
    if first > ended {
        tracing::warn!(
            requests.cut = first,
            requests.written = ended,
            "requests.jsonl lost its end: what was cut and not sent of it is lost"
        );
    }
    (first..ended)
        .step_by(VALUES_PER_CUT)
        .map(move |from| Portion::Ended {
            from,
            to: ended.min(from + VALUES_PER_CUT),
        })
}
