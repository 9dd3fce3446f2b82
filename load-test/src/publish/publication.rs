use std::time::Duration;

use chrono::{DateTime, Utc};
use shared_types::MetricBatch;
use tokio::time::sleep;

use super::{
    PublishError, Sink,
    cuts::{Counting, Cut, Origin, Portion},
    log::Log,
};
use crate::record::RequestRecord;

/// The first pause before batches are sent again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How much has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Batches.
    pub batches: u64,
    /// Values in them.
    pub values: u64,
}

/// Cuts that are written down, then sent.
#[derive(Debug)]
pub(super) struct Publication {
    origin: Origin,
    counting: Counting,
    log: Log,
    next_sequence: u64,
    /// Batches of cuts that are written down, until the sink has taken them.
    unsent: Vec<MetricBatch>,
    published: Published,
}

impl Publication {
    /// One that goes on at the end of `log`, after `noted`, the cuts in it.
    pub(super) fn new(origin: Origin, counting: Counting, log: Log, noted: &[Cut]) -> Self {
        Self {
            origin,
            counting,
            log,
            next_sequence: noted.iter().map(|cut| cut.sequence + 1).max().unwrap_or(0),
            unsent: Vec::new(),
            published: Published::default(),
        }
    }

    pub(super) fn published(&self) -> Published {
        self.published
    }

    /// Makes a cut of `portion`, of which `records` are, and writes it down. Its batches leave with the next [`Self::send`].
    pub(super) fn cut(
        &mut self,
        portion: Portion,
        records: &[RequestRecord],
        timestamp: DateTime<Utc>,
    ) -> Result<(), PublishError> {
        let cut = Cut {
            sequence: self.next_sequence,
            timestamp,
            portion,
        };
        self.queue(&cut, records)?;
        self.log.note(&cut)?;
        self.next_sequence += 1;
        Ok(())
    }

    /// Makes the batches of a cut that is written down, to be sent with the next [`Self::send`].
    pub(super) fn queue(&mut self, cut: &Cut, records: &[RequestRecord]) -> Result<(), PublishError> {
        self.unsent
            .extend(cut.batches(&self.origin, records, self.counting)?);
        Ok(())
    }

    /// Cuts and sends, one by one, the portions that are known only when the run is over, but for those that are `noted`.
    /// `records` are all of the run's, in the order of the schedule.
    pub(super) async fn rest(
        &mut self,
        sink: &dyn Sink,
        records: &[RequestRecord],
        noted: &[Cut],
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Result<(), PublishError> {
        self.send(sink, sleep(patience)).await?;
        for portion in self.counting.late_portions(records) {
            if noted.iter().any(|cut| cut.portion == portion) {
                continue;
            }
            self.cut(portion, portion.of(&[], records), now)?;
            self.send(sink, sleep(patience)).await?;
        }
        Ok(())
    }

    /// Sends what waits, again and again while the sink is away.
    ///
    /// Patience may end in the middle of an attempt whose batches arrive all the same: they wait on, and count once.
    ///
    /// # Errors
    /// The sink refuses; or it is away, and patience has ended: that error is [passing](PublishError::is_passing).
    pub(super) async fn send(
        &mut self,
        sink: &dyn Sink,
        out_of_patience: impl Future<Output = ()>,
    ) -> Result<(), PublishError> {
        let mut last = PublishError::NoAnswer;
        let taken = {
            let attempts = attempts(sink, &self.unsent, &mut last);
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

/// Gives the batches to the sink until it takes or refuses them. `last` is why it has not done so yet.
async fn attempts(
    sink: &dyn Sink,
    batches: &[MetricBatch],
    last: &mut PublishError,
) -> Result<(), PublishError> {
    if batches.is_empty() {
        return Ok(());
    }
    let (mut pause, longest) = PAUSES;
    loop {
        match sink.submit(batches).await {
            Err(error) if error.is_passing() => {
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
