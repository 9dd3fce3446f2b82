use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{event_counts::Event, world::World};

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) body: Bytes,
    pub(crate) redelivered: bool,
}

/// A message that was rejected.
#[derive(Debug, Clone)]
pub(crate) struct Dead {
    pub(crate) body: Bytes,
    pub(crate) reason: String,
    /// When, in virtual time.
    pub(crate) at: Duration,
}

#[derive(Debug)]
struct Unsettled {
    message: Message,
    /// The process that it was delivered to.
    consumer: u64,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    ready: BTreeMap<u64, Message>,
    /// By delivery tag. A tag that is not here is of a link that was lost, or settled.
    unsettled: BTreeMap<u64, Unsettled>,
    dead: Vec<Dead>,
    purged: Vec<Bytes>,
}

/// The durable half of the broker: the queue of batches and that of dead letters.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    pub(super) changed: Notify,
    world: Arc<World>,
}

impl Queue {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            world: Arc::clone(world),
        })
    }

    pub(crate) fn push(&self, body: Bytes) {
        self.lock().enqueue(Message {
            body,
            redelivered: false,
        });
        self.changed.notify_waiters();
    }

    pub(super) fn is_full(&self, capacity: usize) -> bool {
        capacity > 0 && self.lock().ready.len() >= capacity
    }

    /// Delivers a message, if there is one and fewer than `prefetch` are unsettled: the first, or any where the order
    /// is lost.
    pub(super) fn take(&self, consumer: u64, prefetch: usize) -> Option<(u64, Message)> {
        let state = &mut *self.lock();
        let unsettled = state.unsettled.values().filter(|of| of.consumer == consumer);
        if state.ready.is_empty() || unsettled.count() >= prefetch {
            return None;
        }
        let place = self.world.choose(|random, faults| {
            if random.chance(faults.broker.reordered) {
                random.below(state.ready.len())
            } else {
                0
            }
        });
        self.world.count_many(Event::Reordered, (place > 0).into());
        let position = *state.ready.keys().nth(place)?;
        let message = state.ready.remove(&position)?;
        self.world
            .count_many(Event::Redelivered, message.redelivered.into());
        let tag = state.tag();
        let delivered = Unsettled {
            message: message.clone(),
            consumer,
        };
        state.unsettled.insert(tag, delivered);
        Some((tag, message))
    }

    /// Forgets a delivery; `false` where its link is gone.
    pub(super) fn acknowledge(&self, tag: u64) -> bool {
        self.lock().unsettled.remove(&tag).is_some()
    }

    /// Makes a dead letter of a delivery, which is forgotten or, where that did not come through, delivered again.
    pub(super) fn bury(&self, tag: u64, reason: &str, forget: bool) -> bool {
        let mut state = self.lock();
        let Some(Unsettled { message, .. }) = state.unsettled.remove(&tag) else {
            return false;
        };
        state.dead.push(Dead {
            body: message.body.clone(),
            reason: reason.to_owned(),
            at: self.world.elapsed(),
        });
        if !forget {
            state.requeue(message);
        }
        drop(state);
        self.world.count(Event::DeadLetter);
        self.changed.notify_waiters();
        true
    }

    /// Puts a delivery back; `false` where its link is gone.
    pub(super) fn put_back(&self, tag: u64) -> bool {
        let mut state = self.lock();
        let Some(Unsettled { message, .. }) = state.unsettled.remove(&tag) else {
            return false;
        };
        state.requeue(message);
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// A connection is gone (all of them for `None`): what was delivered over it and not settled goes back to the
    /// queue, or nowhere if the broker `forgets`.
    pub(crate) fn close_connection(&self, of: Option<u64>, forgets: bool) {
        let mut state = self.lock();
        let (gone, kept) = std::mem::take(&mut state.unsettled)
            .into_iter()
            .partition(|(_, unsettled)| of.is_none_or(|consumer| unsettled.consumer == consumer));
        state.unsettled = kept;
        let gone: BTreeMap<u64, Unsettled> = gone;
        if !forgets {
            for Unsettled { message, .. } in gone.into_values() {
                state.requeue(message);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Loses every message that waits.
    pub(crate) fn purge(&self) {
        let mut state = self.lock();
        let purged = std::mem::take(&mut state.ready);
        self.world.count_many(Event::Purged, purged.len() as u64);
        state
            .purged
            .extend(purged.into_values().map(|message| message.body));
    }

    /// Whether no message waits or is with a consumer.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.unsettled.is_empty()
    }

    pub(crate) fn dead(&self) -> Vec<Dead> {
        self.lock().dead.clone()
    }

    /// The bodies that were purged.
    pub(crate) fn purged(&self) -> Vec<Bytes> {
        self.lock().purged.clone()
    }

    /// What an operator does: sends the dead letters with such a reason again. Tells how many.
    pub(crate) fn replay(&self, reason: &str) -> u64 {
        let mut state = self.lock();
        let (replayed, kept) = std::mem::take(&mut state.dead)
            .into_iter()
            .partition(|letter| letter.reason.contains(reason));
        state.dead = kept;
        let replayed: Vec<Dead> = replayed;
        for Dead { body, .. } in &replayed {
            state.enqueue(Message {
                body: body.clone(),
                redelivered: false,
            });
        }
        drop(state);
        self.changed.notify_waiters();
        replayed.len() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn enqueue(&mut self, message: Message) {
        let position = self.tag();
        self.ready.insert(position, message);
    }

    fn requeue(&mut self, message: Message) {
        self.enqueue(Message {
            redelivered: true,
            ..message
        });
    }
}
