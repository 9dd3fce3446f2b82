use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;
use tokio::time::sleep;

use super::{
    BatchDestination, PUBLISHED_FILE, PublishError, PublishedTotals, RunFile,
    batch_group::{BatchGroup, GroupContent, REQUESTS_PER_GROUP, RequestFilter, RunOrigin},
    batch_publisher::BatchPublisher,
    publication_log::{PublicationLog, lines},
};
use crate::{
    journal::{REQUESTS_FILE, RequestLine},
    record::RequestRecord,
};

/// Publishes the run of a results directory: sends every logged group again, under the same ids, and then the requests that are
/// in no group. Batches that had arrived before are counted once, so it may be called repeatedly.
///
/// # Errors
/// Where the directory has no run, another process publishes it, or the destination refuses or stays unavailable for
/// `patience`.
pub async fn resume(
    directory: &Path,
    destination: &dyn BatchDestination,
    now: DateTime<Utc>,
    patience: Duration,
) -> Result<PublishedTotals, PublishError> {
    let run = RunFile::read(directory)?;
    let now = run.batches_dated.unwrap_or(now);
    // Locked before anything is read: another process would make other groups of the same requests.
    let log = PublicationLog::open(Some(directory))?;
    let left_out = destination.register_metrics().await?;
    // Only differences of times are used. A request may have been due before the run's start, so the start is not zero.
    let started = MonotonicTime::from_nanos(1 << 62);
    let ended = lines(&directory.join(REQUESTS_FILE), |line| {
        Ok(serde_json::from_slice::<RequestLine<'_>>(line)?.record(started))
    })?;
    let groups: Vec<BatchGroup> = lines(&directory.join(PUBLISHED_FILE), |line| {
        serde_json::from_slice(line)
    })?;
    let mut scheduled: Vec<RequestRecord> = ended.clone();
    scheduled.sort_by_key(|record| record.index);
    let filter = RequestFilter::new(&run.plan, started);
    let origin = RunOrigin {
        left_out,
        ..RunOrigin::new(&run.plan, &run.run_id)?
    };
    let mut publisher = BatchPublisher::new(origin, filter, log, &groups);
    for group in &groups {
        publisher.queue(group, group.content.of(&ended, &scheduled))?;
        publisher.send(destination, sleep(patience)).await?;
    }
    for content in ungrouped(&groups, ended.len()) {
        publisher.add_group(content, content.of(&ended, &scheduled), now)?;
        publisher.send(destination, sleep(patience)).await?;
    }
    publisher
        .send_late_groups(destination, &scheduled, &groups, now, patience)
        .await?;
    Ok(publisher.published())
}

/// The groups to be made of the first `ended` requests, without those that are in `groups`.
fn ungrouped(groups: &[BatchGroup], ended: usize) -> impl Iterator<Item = GroupContent> {
    let last = |group: &BatchGroup| match group.content {
        GroupContent::Ended { to, .. } => Some(to),
        GroupContent::Counted { .. } | GroupContent::Ramp { .. } | GroupContent::Rates => None,
    };
    let first = groups.iter().filter_map(last).max().unwrap_or(0);
    if first > ended {
        tracing::warn!(
            requests.logged = first,
            requests.written = ended,
            "requests.jsonl lost its end: values that were logged and not sent are lost"
        );
    }
    (first..ended)
        .step_by(REQUESTS_PER_GROUP)
        .map(move |from| GroupContent::Ended {
            from,
            to: ended.min(from + REQUESTS_PER_GROUP),
        })
}
