use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use broker::{DeadLetter, LinkState, OutgoingMessage, Selection};
use bytes::Bytes;
use shared_types::Clock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// More dead letters than this are not kept: the batches themselves are stored in the database anyway.
const MAX_DEAD_LETTERS: usize = 10_000;
/// The same for their bodies; the last one is kept however large it is.
const MAX_DEAD_BYTES: usize = 64 * 1024 * 1024;

/// The broker was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker in this process was closed")]
pub(crate) struct Closed;

/// A message that waits for a consumer, or is with one.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its place: a message that comes back goes where it was, before everything that was published after it.
    position: u64,
    id: String,
    routing_key: String,
    pub(crate) body: Bytes,
    pub(crate) redelivered: bool,
}

/// What the publisher of a message waits with.
#[derive(Debug)]
struct Awaited {
    settled: oneshot::Sender<()>,
    /// Room in the queue, kept until the message is settled.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    next_position: u64,
    ready: BTreeMap<u64, Message>,
    /// Every message that is ready or with a consumer; a replayed one is awaited by nobody.
    unsettled: BTreeMap<u64, Option<Awaited>>,
    dead: VecDeque<DeadLetter>,
    /// Of their bodies.
    dead_bytes: usize,
}

/// The queue of batches and that of dead letters.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// Wakes one consumer for each message that becomes ready.
    changed: Notify,
    /// Wakes who waits for the queue to be settled.
    settled: Notify,
    /// Whether the broker was closed; changed under the state's lock.
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

    /// Waits for room, then queues the message; the receiver resolves when a consumer has settled it, and fails when
    /// the broker is closed.
    pub(crate) async fn publish(&self, message: &OutgoingMessage) -> Result<oneshot::Receiver<()>, Closed> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Closed)?;
        let (settled, confirmation) = oneshot::channel();
        let mut state = self.lock();
        if self.is_closed() {
            return Err(Closed);
        }
        let id = message.id.to_string();
        state.push(
            id,
            message.routing_key.clone(),
            message.body.clone(),
            Some(Awaited { settled, _room: room }),
        );
        drop(state);
        self.changed.notify_one();
        Ok(confirmation)
    }

    /// The first message that is ready; waits for one, for ever where the broker is closed. Cancel-safe.
    pub(crate) async fn take(&self) -> Message {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                if let Some((_, message)) = state.ready.pop_first() {
                    if !state.ready.is_empty() {
                        // Wake-ups are not counted: pass one on, lest a message waits while a consumer sleeps.
                        self.changed.notify_one();
                    }
                    return message;
                }
            }
            changed.await;
        }
    }

    /// The message was processed.
    pub(crate) fn acknowledge(&self, message: &Message) -> Result<(), Closed> {
        self.settle(message, &mut self.lock())
    }

    /// The message goes back to its place.
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

    /// The message becomes a dead letter.
    pub(crate) fn bury(&self, message: Message, reason: &str) -> Result<(), Closed> {
        let mut state = self.lock();
        self.settle(&message, &mut state)?;
        state.bury(DeadLetter {
            id: message.id,
            reason: reason.to_owned(),
            rejected_at: Some(self.clock.now()),
            routing_key: message.routing_key,
            body: message.body,
        });
        while let Some(forgotten) = state.dead_beyond_the_limits() {
            tracing::warn!(
                message.id = forgotten.id,
                message.reason = forgotten.reason,
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

    /// Moves the selected dead letters to the end of the queue. They bypass its capacity: they are few, and nobody
    /// waits for them.
    pub(crate) fn replay(&self, selection: &Selection) -> Result<Vec<String>, Closed> {
        let mut state = self.lock();
        if self.is_closed() {
            return Err(Closed);
        }
        let selected = state.remove_dead(selection);
        let ids = selected.iter().map(|letter| letter.id.clone()).collect();
        for letter in selected {
            state.push(letter.id, letter.routing_key, letter.body, None);
        }
        drop(state);
        self.changed.notify_one();
        Ok(ids)
    }

    pub(crate) fn discard(&self, selection: &Selection) -> Vec<String> {
        let discarded = self.lock().remove_dead(selection);
        discarded.into_iter().map(|letter| letter.id).collect()
    }

    /// How many messages are ready, and how many are dead.
    pub(crate) fn depths(&self) -> (u64, u64) {
        let state = self.lock();
        (state.ready.len() as u64, state.dead.len() as u64)
    }

    pub(crate) fn link(&self) -> LinkState {
        // Publishing ends first when the broker is closed, and whoever looks is interested in its beginning.
        if self.room.is_closed() {
            LinkState::Down {
                reason: Closed.to_string(),
            }
        } else {
            LinkState::Ready
        }
    }

    pub(crate) fn refuse_publishing(&self) {
        self.room.close();
    }

    /// Waits until nothing is unsettled.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.lock().unsettled.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Ends everything: consumers get `None`, and who still waits for a confirmation gets none.
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
        let awaited = state.unsettled.remove(&message.position).ok_or(Closed)?;
        if let Some(Awaited { settled, .. }) = awaited {
            // Its publisher may have given up waiting.
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
    fn push(&mut self, id: String, routing_key: String, body: Bytes, awaited: Option<Awaited>) {
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
        self.unsettled.insert(position, awaited);
    }

    fn bury(&mut self, letter: DeadLetter) {
        self.dead_bytes += letter.body.len();
        self.dead.push_back(letter);
    }

    /// The oldest dead letter, removed, where there are too many.
    fn dead_beyond_the_limits(&mut self) -> Option<DeadLetter> {
        let is_too_large = self.dead_bytes > MAX_DEAD_BYTES && self.dead.len() > 1;
        if !is_too_large && self.dead.len() <= MAX_DEAD_LETTERS {
            return None;
        }
        let oldest = self.dead.pop_front()?;
        self.dead_bytes -= oldest.body.len();
        Some(oldest)
    }

    fn remove_dead(&mut self, selection: &Selection) -> Vec<DeadLetter> {
        let mut wanted = selection.wanted();
        let (selected, kept): (VecDeque<_>, _) = std::mem::take(&mut self.dead)
            .into_iter()
            .partition(|letter| wanted.takes(&letter.id));
        self.dead = kept;
        self.dead_bytes -= selected.iter().map(|letter| letter.body.len()).sum::<usize>();
        Vec::from(selected)
    }
}
