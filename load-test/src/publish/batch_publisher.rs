use std::time::Duration;

use chrono::{DateTime, Utc};
use shared_types::MetricBatch;
use tokio::time::sleep;

use super::{
    BatchDestination, PublishError,
    batch_group::{BatchGroup, GroupContent, RequestFilter, RunOrigin},
    publication_log::PublicationLog,
};
use crate::record::RequestRecord;

/// The first and the longest pause before batches are sent again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Numbers of what has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishedTotals {
    /// Number of batches.
    pub batches: u64,
    /// Number of values in the batches.
    pub values: u64,
}

/// Writes batch groups to the log, then sends their batches.
#[derive(Debug)]
pub(super) struct BatchPublisher {
    origin: RunOrigin,
    filter: RequestFilter,
    log: PublicationLog,
    next_sequence: u64,
    /// Batches of logged groups that the destination has not accepted yet.
    unsent: Vec<MetricBatch>,
    published: PublishedTotals,
}

impl BatchPublisher {
    /// Continues at the end of `log`, which contains the groups `logged`.
    pub(super) fn new(
        origin: RunOrigin,
        filter: RequestFilter,
        log: PublicationLog,
        logged: &[BatchGroup],
    ) -> Self {
        Self {
            origin,
            filter,
            log,
            next_sequence: logged.iter().map(|group| group.sequence + 1).max().unwrap_or(0),
            unsent: Vec::new(),
            published: PublishedTotals::default(),
        }
    }

    pub(super) fn published(&self) -> PublishedTotals {
        self.published
    }

    /// Makes the group of `content`, whose requests are `records`, and logs it. Its batches are sent by the next [`Self::send`].
    pub(super) fn add_group(
        &mut self,
        content: GroupContent,
        records: &[RequestRecord],
        timestamp: DateTime<Utc>,
    ) -> Result<(), PublishError> {
        let group = BatchGroup {
            sequence: self.next_sequence,
            timestamp,
            content,
        };
        self.queue(&group, records)?;
        self.log.append(&group)?;
        self.next_sequence += 1;
        Ok(())
    }

    /// Makes the batches of a logged group; they are sent by the next [`Self::send`].
    pub(super) fn queue(
        &mut self,
        group: &BatchGroup,
        records: &[RequestRecord],
    ) -> Result<(), PublishError> {
        self.unsent
            .extend(group.batches(&self.origin, records, self.filter)?);
        Ok(())
    }

    /// Sends the groups that can be made only when the run is over, except those that are `logged`. `records` are all of the
    /// run's, in the order of the schedule.
    pub(super) async fn send_late_groups(
        &mut self,
        destination: &dyn BatchDestination,
        records: &[RequestRecord],
        logged: &[BatchGroup],
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Result<(), PublishError> {
        self.send(destination, sleep(patience)).await?;
        for content in self.filter.late_groups(records) {
            if logged.iter().any(|group| group.content == content) {
                continue;
            }
            self.add_group(content, content.of(&[], records), now)?;
            self.send(destination, sleep(patience)).await?;
        }
        Ok(())
    }

    /// Sends the unsent batches, repeatedly while the destination is unavailable.
    ///
    /// `out_of_patience` may complete during an attempt whose batches arrive all the same. They stay unsent here, and are counted
    /// once although they are sent again.
    ///
    /// # Errors
    /// Where the destination refuses, or is still unavailable when `out_of_patience` completes; the latter is
    /// [transient](PublishError::is_transient).
    pub(super) async fn send(
        &mut self,
        destination: &dyn BatchDestination,
        out_of_patience: impl Future<Output = ()>,
    ) -> Result<(), PublishError> {
        let mut last = PublishError::NoAnswer;
        let taken = {
            let attempts = attempts(destination, &self.unsent, &mut last);
            tokio::select! {
                biased;
                taken = attempts => Some(taken),
                () = out_of_patience => None,
            }
        };
        taken.unwrap_or(Err(last))?;
        self.published.batches += self.unsent.len() as u64;
        let values = self.unsent.iter().map(|batch| batch.values().len() as u64);
        self.published.values += values.sum::<u64>();
        self.unsent.clear();
        Ok(())
    }
}

/// Sends the batches until the destination accepts or refuses them. `last` is the last error so far.
async fn attempts(
    destination: &dyn BatchDestination,
    batches: &[MetricBatch],
    last: &mut PublishError,
) -> Result<(), PublishError> {
    if batches.is_empty() {
        return Ok(());
    }
    let (mut pause, longest) = PAUSES;
    loop {
        match destination.submit(batches).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "measured values wait to be published"
                );
                *last = error;
            }
            taken_or_refused => return taken_or_refused,
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
