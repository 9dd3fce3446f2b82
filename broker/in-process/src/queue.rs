use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use broker::{DeadLetter, DeadLetterSelection, OutgoingMessage};
use bytes::Bytes;
use shared_types::Clock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Beyond this number the oldest dead letter is deleted. Its batch is still stored in the database.
const MAX_DEAD_LETTERS: usize = 10_000;
/// The limit of the bodies of all dead letters together. The newest dead letter is kept even if it is larger.
const MAX_DEAD_BYTES: usize = 64 * 1024 * 1024;

/// The broker was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker in this process was closed")]
pub(crate) struct Closed;

/// A message that is ready for a consumer or unsettled at one.
#[derive(Debug)]
pub(crate) struct Message {
    /// The order of publishing. A requeued message keeps its position, ahead of all messages published later.
    position: u64,
    id: String,
    routing_key: String,
    pub(crate) body: Bytes,
    pub(crate) redelivered: bool,
}

/// The confirmation that a publisher waits for.
#[derive(Debug)]
struct PendingConfirm {
    settled: oneshot::Sender<()>,
    /// A place in the queue, taken until the message is settled.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    next_position: u64,
    ready: BTreeMap<u64, Message>,
    /// Every message that is ready or at a consumer, by position. `None` for a replayed one: it has no publisher.
    unsettled: BTreeMap<u64, Option<PendingConfirm>>,
    dead: VecDeque<DeadLetter>,
    /// The bytes of the bodies in `dead`.
    dead_bytes: usize,
}

/// The queue of batches and the queue of dead letters.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// Wakes one consumer for each message that becomes ready.
    changed: Notify,
    /// Wakes the tasks that wait in [`Self::settled`].
    settled: Notify,
    /// Whether the broker was closed. Changed only while the state is locked.
    ended: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

impl Queue {
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(capacity.clamp(1, Semaphore::MAX_PERMITS))),
            changed: Notify::new(),
            settled: Notify::new(),
            ended: watch::Sender::new(false),
            clock,
        }
    }

    /// Waits for a free place, then queues the message. The receiver resolves when a consumer has settled the message, and
    /// fails when the broker is closed.
    pub(crate) async fn push(&self, message: &OutgoingMessage) -> Result<oneshot::Receiver<()>, Closed> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Closed)?;
        let (settled, confirmation) = oneshot::channel();
        let mut state = self.lock();
        if self.is_closed() {
            return Err(Closed);
        }
        let id = message.id.to_string();
        state.add(
            id,
            message.routing_key.clone(),
            message.body.clone(),
            Some(PendingConfirm { settled, _room: room }),
        );
        drop(state);
        self.changed.notify_one();
        Ok(confirmation)
    }

    /// Takes the first ready message. Waits for one; forever where the broker is closed. Cancel-safe.
    pub(crate) async fn take(&self) -> Message {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                if let Some((_, message)) = state.ready.pop_first() {
                    if !state.ready.is_empty() {
                        // Several messages may have caused only one wake-up, so wake the next consumer too.
                        self.changed.notify_one();
                    }
                    return message;
                }
            }
            changed.await;
        }
    }

    /// Removes a message that was processed.
    pub(crate) fn acknowledge(&self, message: &Message) -> Result<(), Closed> {
        self.settle(message, &mut self.lock())
    }

    /// Makes the message ready again, at its position.
    pub(crate) fn requeue(&self, mut message: Message) -> Result<(), Closed> {
        let mut state = self.lock();
        if self.is_closed() {
            return Err(Closed);
        }
        message.redelivered = true;
        state.ready.insert(message.position, message);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Moves the message to the dead letters.
    pub(crate) fn add_dead_letter(&self, message: Message, reason: &str) -> Result<(), Closed> {
        let mut state = self.lock();
        self.settle(&message, &mut state)?;
        state.add_dead_letter(DeadLetter {
            id: message.id,
            reason: reason.to_owned(),
            rejected_at: Some(self.clock.now()),
            routing_key: message.routing_key,
            body: message.body,
        });
        while let Some(removed) = state.pop_excess_dead_letter() {
            tracing::warn!(
                message.id = removed.id,
                message.reason = removed.reason,
                limit = MAX_DEAD_LETTERS,
                limit_bytes = MAX_DEAD_BYTES,
                "too many dead letters: the oldest is forgotten"
            );
        }
        Ok(())
    }

    pub(crate) fn dead_letters(&self, limit: usize) -> Vec<DeadLetter> {
        self.lock().dead.iter().take(limit).cloned().collect()
    }

    /// Moves the selected dead letters to the end of the queue. The queue's capacity does not apply to them: they are few, and
    /// they have no publisher that could wait.
    pub(crate) fn replay_dead_letters(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, Closed> {
        let mut state = self.lock();
        if self.is_closed() {
            return Err(Closed);
        }
        let selected = state.remove_dead(selection);
        let ids = selected.iter().map(|letter| letter.id.clone()).collect();
        for letter in selected {
            state.add(letter.id, letter.routing_key, letter.body, None);
        }
        drop(state);
        self.changed.notify_one();
        Ok(ids)
    }

    pub(crate) fn discard_dead_letters(&self, selection: &DeadLetterSelection) -> Vec<String> {
        let discarded = self.lock().remove_dead(selection);
        discarded.into_iter().map(|letter| letter.id).collect()
    }

    /// The numbers of ready messages and of dead letters.
    pub(crate) fn depths(&self) -> (u64, u64) {
        let state = self.lock();
        (state.ready.len() as u64, state.dead.len() as u64)
    }

    pub(crate) fn refuses_publishing(&self) -> bool {
        self.room.is_closed()
    }

    pub(crate) fn refuse_publishing(&self) {
        self.room.close();
    }

    /// Waits until no message is unsettled.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.lock().unsettled.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Closes the queue: subscriptions end, and pending confirmations fail.
    pub(crate) fn close(&self) {
        self.refuse_publishing();
        let mut state = self.lock();
        self.ended.send_replace(true);
        state.ready.clear();
        state.unsettled.clear();
        drop(state);
        self.settled.notify_waiters();
    }

    /// Waits until the broker is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn is_closed(&self) -> bool {
        *self.ended.borrow()
    }

    fn settle(&self, message: &Message, state: &mut State) -> Result<(), Closed> {
        let pending_confirm = state.unsettled.remove(&message.position).ok_or(Closed)?;
        if let Some(PendingConfirm { settled, .. }) = pending_confirm {
            // The publisher may have stopped waiting.
            let _ = settled.send(());
        }
        if state.unsettled.is_empty() {
            self.settled.notify_waiters();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, id: String, routing_key: String, body: Bytes, pending_confirm: Option<PendingConfirm>) {
        let position = self.next_position;
        self.next_position += 1;
        let message = Message {
            position,
            id,
            routing_key,
            body,
            redelivered: false,
        };
        self.ready.insert(position, message);
        self.unsettled.insert(position, pending_confirm);
    }

    fn add_dead_letter(&mut self, letter: DeadLetter) {
        self.dead_bytes += letter.body.len();
        self.dead.push_back(letter);
    }

    /// Removes and returns the oldest dead letter where there are too many.
    fn pop_excess_dead_letter(&mut self) -> Option<DeadLetter> {
        let is_too_large = self.dead_bytes > MAX_DEAD_BYTES && self.dead.len() > 1;
        if !is_too_large && self.dead.len() <= MAX_DEAD_LETTERS {
            return None;
        }
        let oldest = self.dead.pop_front()?;
        self.dead_bytes -= oldest.body.len();
        Some(oldest)
    }

    fn remove_dead(&mut self, selection: &DeadLetterSelection) -> Vec<DeadLetter> {
        let mut selection = selection.unmatched();
        let (selected, kept): (VecDeque<_>, _) = std::mem::take(&mut self.dead)
            .into_iter()
            .partition(|letter| selection.matches(&letter.id));
        self.dead = kept;
        self.dead_bytes -= selected.iter().map(|letter| letter.body.len()).sum::<usize>();
        Vec::from(selected)
    }
}
