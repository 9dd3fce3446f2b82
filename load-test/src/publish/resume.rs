use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;
use shared_types::{LlmName, RunId};
use tokio::time::Instant;

use super::{
    PUBLISHED_FILE, PublishError, RunFile, Sink,
    cuts::{Counting, Cut, Origin, Portion, VALUES_PER_CUT},
    feed::{Patience, Publication, Published},
    log::lines,
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
/// The directory holds no run, or something else; the sink refuses, or was away for all of `patience`.
pub async fn resume(
    directory: &Path,
    sink: &dyn Sink,
    now: DateTime<Utc>,
    patience: Duration,
) -> Result<Published, PublishError> {
    let (run, give_up) = (RunFile::read(directory)?, Instant::now() + patience);
    let left_out = sink.register_metrics().await?;
    // Only distances count; a request may have been due before the run's start.
    let started = MonotonicTime::from_nanos(1 << 62);
    let ended = lines(&directory.join(REQUESTS_FILE), |line| {
        Ok(serde_json::from_str::<RequestLine<'_>>(line)?.record(started))
    })?;
    let cuts: Vec<Cut> = lines(&directory.join(PUBLISHED_FILE), |line| serde_json::from_str(line))?;
    let mut scheduled: Vec<RequestRecord> = ended.clone();
    scheduled.sort_by_key(|record| record.index);
    let counting = Counting {
        warmup_requests: run.plan.warmup_requests,
        from: started + run.plan.load.ramp_up(),
    };
    let origin = Origin {
        llm: LlmName::new(&run.plan.model)?,
        run_id: RunId::new(&run.run_id)?,
        metadata: run_metadata(&run.plan)?,
        left_out,
    };
    let mut publication = Publication::new(origin, counting, Some(directory))?;
    let mut position = 0;
    for cut in &cuts {
        let all = match cut.portion {
            Portion::Ended { to, .. } => {
                position = position.max(to);
                &ended
            }
            Portion::Counted { .. } | Portion::Ramp { .. } | Portion::Rates => &scheduled,
        };
        publication
            .repeat(cut, cut.portion.of(all), sink, Patience::For(give_up))
            .await?;
    }
    while position < ended.len() {
        let portion = Portion::Ended {
            from: position,
            to: ended.len().min(position + VALUES_PER_CUT),
        };
        publication
            .publish(portion, portion.of(&ended), now, sink, Patience::For(give_up))
            .await?;
        position += VALUES_PER_CUT;
    }
    let is_complete = cuts.iter().any(|cut| cut.portion == Portion::Rates);
    if !is_complete {
        publication.rest(sink, &scheduled, now, give_up).await?;
    }
    Ok(publication.published)
}
