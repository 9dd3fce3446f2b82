use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;
use shared_types::{Clock, MetricBatch};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    PublishError, Sink,
    cuts::{Counting, Cut, Origin, Portion, VALUES_PER_CUT},
    log::Log,
};
use crate::{
    journal::Follower,
    record::{Finished, RequestRecord},
};

/// How often it is looked whether a cut is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Requests that wait are cut so long after the cut before, however few they are.
const CUT_AFTER: Duration = Duration::from_secs(5);
/// The first pause before batches are sent again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Takes what has ended from the journal's thread. Records only: what waits here is in the journal's memory too.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Mutex<Vec<RequestRecord>>>);

impl Feed {
    fn take(&self) -> Vec<RequestRecord> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Follower for Feed {
    fn finished(&mut self, finished: &[Finished]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(finished.iter().map(|finished| finished.record));
    }
}

/// What a run's values are published as.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// What all batches say.
    pub origin: Origin,
    /// Requests with a smaller index are not published.
    pub warmup_requests: u64,
    /// Nor are those that were sent so soon after the start.
    pub ramp_up: Duration,
    /// When the run began.
    pub started: MonotonicTime,
    /// Where the cuts are written down.
    pub results_dir: Option<PathBuf>,
}

/// The other end of a [`Feed`]: cuts and publishes.
#[derive(Debug)]
pub struct FeedEnd {
    feed: Feed,
    publication: Publication,
    pending: Vec<RequestRecord>,
    /// Number of the first of them in the journal's order.
    position: usize,
    clock: Arc<dyn Clock>,
}

/// Both ends.
///
/// # Errors
/// `published.jsonl` cannot be created.
pub fn feed(settings: &FeedSettings, clock: Arc<dyn Clock>) -> Result<(Feed, FeedEnd), PublishError> {
    let feed = Feed::default();
    let counting = Counting {
        warmup_requests: settings.warmup_requests,
        from: settings.started + settings.ramp_up,
    };
    let end = FeedEnd {
        feed: feed.clone(),
        publication: Publication::new(settings.origin.clone(), counting, settings.results_dir.as_deref())?,
        pending: Vec::new(),
        position: 0,
        clock,
    };
    Ok((feed, end))
}

impl FeedEnd {
    /// Publishes what ends until `ended`. A sink that is away is tried again; one that refuses ends it.
    ///
    /// # Errors
    /// The sink refused for good, or the cuts cannot be written down.
    pub async fn follow(&mut self, sink: &dyn Sink, ended: &CancellationToken) -> Result<(), PublishError> {
        let (mut look, mut last_cut) = (interval(LOOK_EVERY), Instant::now());
        loop {
            tokio::select! {
                biased;
                () = ended.cancelled() => return Ok(()),
                _ = look.tick() => self.pending.extend(self.feed.take()),
            }
            while self.pending.len() >= VALUES_PER_CUT
                || (!self.pending.is_empty() && last_cut.elapsed() >= CUT_AFTER)
            {
                last_cut = Instant::now();
                self.cut(sink, Patience::Until(ended)).await?;
            }
        }
    }

    /// Publishes the rest of a run that has ended: what no cut holds yet, tokens that were counted after the run, and rates.
    /// `records` are all of the run's, in the order of the schedule.
    ///
    /// # Errors
    /// As [`Self::follow`]; and where the sink was away for all of `patience`.
    pub async fn finish(
        mut self,
        sink: &dyn Sink,
        records: &[RequestRecord],
        patience: Duration,
    ) -> Result<Published, PublishError> {
        let give_up = Instant::now() + patience;
        self.pending.extend(self.feed.take());
        while !self.pending.is_empty() {
            self.cut(sink, Patience::For(give_up)).await?;
        }
        let now = self.clock.now();
        self.publication.rest(sink, records, now, give_up).await?;
        Ok(self.publication.published)
    }

    async fn cut(&mut self, sink: &dyn Sink, patience: Patience<'_>) -> Result<(), PublishError> {
        let taken = self.pending.len().min(VALUES_PER_CUT);
        let portion = Portion::Ended {
            from: self.position,
            to: self.position + taken,
        };
        let (records, now) = (&self.pending[..taken], self.clock.now());
        self.publication
            .publish(portion, records, now, sink, patience)
            .await?;
        self.pending.drain(..taken);
        self.position += taken;
        Ok(())
    }
}

/// How much has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Batches.
    pub batches: u64,
    /// Values in them.
    pub values: u64,
}

/// How long a sink may be away.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience<'a> {
    Until(&'a CancellationToken),
    For(Instant),
}

impl Patience<'_> {
    fn is_over(self) -> bool {
        match self {
            Self::Until(ended) => ended.is_cancelled(),
            Self::For(give_up) => Instant::now() >= give_up,
        }
    }
}

/// Cuts that are written down, then sent.
#[derive(Debug)]
pub(super) struct Publication {
    origin: Origin,
    counting: Counting,
    log: Log,
    /// Cuts that are written down and not sent yet: the sink was away when the run ended.
    unsent: Vec<MetricBatch>,
    pub(super) next_sequence: u64,
    pub(super) published: Published,
}

impl Publication {
    pub(super) fn new(
        origin: Origin,
        counting: Counting,
        results_dir: Option<&Path>,
    ) -> Result<Self, PublishError> {
        Ok(Self {
            origin,
            counting,
            log: Log::open(results_dir)?,
            unsent: Vec::new(),
            next_sequence: 0,
            published: Published::default(),
        })
    }

    /// Makes a cut and sends its batches.
    pub(super) async fn publish(
        &mut self,
        portion: Portion,
        records: &[RequestRecord],
        timestamp: DateTime<Utc>,
        sink: &dyn Sink,
        patience: Patience<'_>,
    ) -> Result<(), PublishError> {
        let cut = Cut {
            sequence: self.next_sequence,
            timestamp,
            portion,
        };
        let batches = cut.batches(&self.origin, records, self.counting)?;
        self.log.note(&cut)?;
        self.next_sequence += 1;
        self.unsent.extend(batches);
        self.send(sink, patience).await
    }

    /// Sends the batches of a cut that was written down before.
    pub(super) async fn repeat(
        &mut self,
        cut: &Cut,
        records: &[RequestRecord],
        sink: &dyn Sink,
        patience: Patience<'_>,
    ) -> Result<(), PublishError> {
        self.unsent
            .extend(cut.batches(&self.origin, records, self.counting)?);
        self.next_sequence = self.next_sequence.max(cut.sequence + 1);
        self.send(sink, patience).await
    }

    /// The portions that are known only when the run is over.
    pub(super) async fn rest(
        &mut self,
        sink: &dyn Sink,
        records: &[RequestRecord],
        now: DateTime<Utc>,
        give_up: Instant,
    ) -> Result<(), PublishError> {
        for portion in self.counting.late_portions(records) {
            self.publish(portion, portion.of(records), now, sink, Patience::For(give_up))
                .await?;
        }
        Ok(())
    }

    /// Sends what waits; it goes on waiting where the sink is away and patience ends with the run.
    async fn send(&mut self, sink: &dyn Sink, patience: Patience<'_>) -> Result<(), PublishError> {
        let (mut pause, longest) = PAUSES;
        while !self.unsent.is_empty() {
            match sink.submit(&self.unsent).await {
                Ok(()) => {
                    self.published.batches += self.unsent.len() as u64;
                    self.published.values += self
                        .unsent
                        .iter()
                        .map(|batch| batch.values().len() as u64)
                        .sum::<u64>();
                    self.unsent.clear();
                }
                Err(error) if error.is_passing() && !patience.is_over() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "measured values wait to be published"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                Err(error) if error.is_passing() && matches!(patience, Patience::Until(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
