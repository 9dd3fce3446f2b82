use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use precise_time::MonotonicTime;
use shared_types::Clock;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    PublishError, Published, Sink,
    cuts::{Counting, Origin, Portion, VALUES_PER_CUT},
    log::Log,
    publication::Publication,
};
use crate::{
    journal::Follower,
    record::{Finished, RequestRecord},
};

/// How often it is looked whether a cut is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Requests that wait are cut so long after the cut before, however few they are.
const CUT_AFTER: Duration = Duration::from_secs(5);

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
    /// Without a stream the first token comes with the last, and there is no time to it.
    pub is_streamed: bool,
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
/// `published.jsonl` cannot be created, or another process has it.
pub fn feed(settings: &FeedSettings, clock: Arc<dyn Clock>) -> Result<(Feed, FeedEnd), PublishError> {
    let feed = Feed::default();
    let counting = Counting {
        warmup_requests: settings.warmup_requests,
        from: settings.started + settings.ramp_up,
        is_streamed: settings.is_streamed,
    };
    let end = FeedEnd {
        feed: feed.clone(),
        publication: Publication::new(
            settings.origin.clone(),
            counting,
            Log::open(settings.results_dir.as_deref())?,
            &[],
        ),
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
                self.cut()?;
                match self.publication.send(sink, ended.cancelled()).await {
                    // The run has ended, or this would still be trying: the end tries again.
                    Err(error) if error.is_passing() => return Ok(()),
                    taken_or_refused => taken_or_refused?,
                }
            }
        }
    }

    /// Publishes the rest of a run that has ended: what no cut holds yet, tokens that were counted after the run, and rates.
    /// `records` are all of the run's, in the order of the schedule.
    ///
    /// # Errors
    /// As [`Self::follow`]; and where the sink took nothing for all of `patience`.
    pub async fn finish(
        mut self,
        sink: &dyn Sink,
        records: &[RequestRecord],
        patience: Duration,
    ) -> Result<Published, PublishError> {
        self.pending.extend(self.feed.take());
        while !self.pending.is_empty() {
            self.cut()?;
            self.publication.send(sink, sleep(patience)).await?;
        }
        let now = self.clock.now();
        self.publication.rest(sink, records, &[], now, patience).await?;
        Ok(self.publication.published())
    }

    /// Makes a cut of the first that are pending.
    fn cut(&mut self) -> Result<(), PublishError> {
        let taken = self.pending.len().min(VALUES_PER_CUT);
        let portion = Portion::Ended {
            from: self.position,
            to: self.position + taken,
        };
        self.publication
            .cut(portion, &self.pending[..taken], self.clock.now())?;
        self.pending.drain(..taken);
        self.position += taken;
        Ok(())
    }
}
