use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outbox::Outbox;
use shared_types::{BatchId, Checksum, MetricBatch};
use storage::Recorded;

use crate::{workload::Chunk, world::Process};

/// Somebody who sends batches to a process, and sends them again, with the same ids, until it has an answer. It is
/// outside of the process and outlives it.
#[derive(Debug)]
pub(crate) struct Client(Mutex<Progress>);

#[derive(Debug)]
struct Progress {
    chunks: Vec<Chunk>,
    next: usize,
    /// Whether the next chunk was sent at least once.
    sent: bool,
    answers: Answers,
}

/// What the outbox has said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Stored under this id with this content, now or before.
    pub(crate) stored: BTreeMap<BatchId, Checksum>,
    /// Refused.
    pub(crate) refused: Vec<(BatchId, Checksum)>,
    /// Answers with another number of outcomes than of batches.
    pub(crate) malformed: usize,
}

impl Client {
    const PAUSE: Duration = Duration::from_millis(500);

    pub(crate) fn new(chunks: Vec<Chunk>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Progress {
            chunks,
            next: 0,
            sent: false,
            answers: Answers::default(),
        })))
    }

    pub(crate) fn is_done(&self) -> bool {
        let progress = self.lock();
        progress.next == progress.chunks.len()
    }

    pub(crate) fn answers(&self) -> Answers {
        self.lock().answers.clone()
    }

    /// After a crash: some clients never ask again what became of the call that they had made.
    pub(crate) fn gives_up(&self) {
        let mut progress = self.lock();
        if progress.sent {
            progress.next += 1;
            progress.sent = false;
        }
    }

    /// Sends what there is to send by this outbox, as long as its process lives.
    pub(crate) async fn submit_all(self: Arc<Self>, process: Arc<Process>, outbox: Outbox) {
        while let Some(chunk) = self.current() {
            let early = chunk.due.saturating_sub(process.world.elapsed());
            tokio::time::sleep(early).await;
            self.lock().sent = true;
            let answer = outbox.submit(chunk.batches.clone()).await;
            // A process that died in between has not answered.
            process.unless_dead().await;
            match answer {
                Ok(outcomes) => self.take(&chunk.batches, &outcomes),
                Err(_unknown) => tokio::time::sleep(Self::PAUSE).await,
            }
        }
    }

    fn current(&self) -> Option<Chunk> {
        let progress = self.lock();
        progress.chunks.get(progress.next).cloned()
    }

    fn take(&self, batches: &[MetricBatch], outcomes: &[Recorded]) {
        let mut progress = self.lock();
        progress.next += 1;
        progress.sent = false;
        let answers = &mut progress.answers;
        answers.malformed += usize::from(batches.len() != outcomes.len());
        for (batch, outcome) in batches.iter().zip(outcomes) {
            match outcome {
                Recorded::Stored | Recorded::AlreadyStored => {
                    answers.stored.insert(batch.id(), batch.checksum());
                }
                Recorded::Refused(_) => answers.refused.push((batch.id(), batch.checksum())),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
