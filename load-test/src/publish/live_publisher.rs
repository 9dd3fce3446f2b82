use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shared_types::Clock;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    BatchDestination, PublishError, PublishedTotals,
    batch_group::{GroupContent, REQUESTS_PER_GROUP, RequestFilter, RunOrigin},
    batch_publisher::BatchPublisher,
    publication_log::PublicationLog,
};
use crate::{
    journal::JournalSubscriber,
    record::{FinishedRequest, RequestRecord},
};

/// How often the queue is checked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pending requests become a group after this time even where they are few.
const GROUP_AFTER: Duration = Duration::from_secs(5);

/// Requests that have ended and are to be published; filled by the journal's thread. Only records: the journal keeps them in
/// memory as well.
#[derive(Debug, Clone, Default)]
pub struct FinishedRequestQueue(Arc<Mutex<Vec<RequestRecord>>>);

impl FinishedRequestQueue {
    fn take(&self) -> Vec<RequestRecord> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl JournalSubscriber for FinishedRequestQueue {
    fn finished(&mut self, finished: &[FinishedRequest]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(finished.iter().map(|finished| finished.record));
    }
}

/// Publishes the requests of a [`FinishedRequestQueue`] while the run goes on.
#[derive(Debug)]
pub struct LivePublisher {
    queue: FinishedRequestQueue,
    publisher: BatchPublisher,
    pending: Vec<RequestRecord>,
    /// Position of the first pending request in the journal's order.
    position: usize,
    clock: Arc<dyn Clock>,
}

/// The queue for the journal, and the publisher that reads it. Groups are logged in `results_dir`.
///
/// # Errors
/// `published.jsonl` cannot be created, or another process has it.
pub fn live_publisher(
    origin: RunOrigin,
    filter: RequestFilter,
    results_dir: Option<&Path>,
    clock: Arc<dyn Clock>,
) -> Result<(FinishedRequestQueue, LivePublisher), PublishError> {
    let queue = FinishedRequestQueue::default();
    let publisher = LivePublisher {
        queue: queue.clone(),
        publisher: BatchPublisher::new(origin, filter, PublicationLog::open(results_dir)?, &[]),
        pending: Vec::new(),
        position: 0,
        clock,
    };
    Ok((queue, publisher))
}

impl LivePublisher {
    /// Publishes requests until `ended` is cancelled. Tries again while the destination is unavailable; ends where it refuses.
    ///
    /// # Errors
    /// Where the destination refuses, or the groups cannot be logged.
    pub async fn follow(
        &mut self,
        destination: &dyn BatchDestination,
        ended: &CancellationToken,
    ) -> Result<(), PublishError> {
        let (mut look, mut last_cut) = (interval(LOOK_EVERY), Instant::now());
        loop {
            tokio::select! {
                biased;
                () = ended.cancelled() => return Ok(()),
                _ = look.tick() => self.pending.extend(self.queue.take()),
            }
            while self.pending.len() >= REQUESTS_PER_GROUP
                || (!self.pending.is_empty() && last_cut.elapsed() >= GROUP_AFTER)
            {
                last_cut = Instant::now();
                self.add_group()?;
                match self.publisher.send(destination, ended.cancelled()).await {
                    // The run has ended meanwhile; `finish` sends these batches again.
                    Err(error) if error.is_transient() => return Ok(()),
                    accepted_or_refused => accepted_or_refused?,
                }
            }
        }
    }

    /// Publishes the rest of a run that has ended: requests in no group yet, tokens that were counted after the run, and rates.
    /// `records` are all of the run's, in the order of the schedule.
    ///
    /// # Errors
    /// The errors of [`Self::follow`]; and where the destination stays unavailable for `patience`.
    pub async fn finish(
        mut self,
        destination: &dyn BatchDestination,
        records: &[RequestRecord],
        patience: Duration,
    ) -> Result<PublishedTotals, PublishError> {
        self.pending.extend(self.queue.take());
        while !self.pending.is_empty() {
            self.add_group()?;
            self.publisher.send(destination, sleep(patience)).await?;
        }
        let now = self.clock.now();
        self.publisher
            .send_late_groups(destination, records, &[], now, patience)
            .await?;
        Ok(self.publisher.published())
    }

    /// Makes a group of the first pending requests.
    fn add_group(&mut self) -> Result<(), PublishError> {
        let taken = self.pending.len().min(REQUESTS_PER_GROUP);
        let content = GroupContent::Ended {
            from: self.position,
            to: self.position + taken,
        };
        self.publisher
            .add_group(content, &self.pending[..taken], self.clock.now())?;
        self.pending.drain(..taken);
        self.position += taken;
        Ok(())
    }
}
