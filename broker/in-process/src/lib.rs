//! The message broker of the embedded default: queues in this process's memory.
//!
//! Memory can take no responsibility for a message, so [`Publisher::publish`] succeeds only when a consumer has
//! settled it; whoever deletes his own copy then loses nothing, whatever becomes of the process. What is dead is
//! kept in memory too, for the operator to look at while the process lives.
//!
//! Nothing is spawned and nothing polls: the broker is a locked queue and the wake-ups of those who wait for it.

mod dead_letters;
mod holdings;
mod publisher;
mod queue;
mod subscription;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{
    Broker, BrokerInfo, DeadLetters, Holdings, LinkState, Prefetch, PublishError, Publisher, Subscription,
};
use shared_types::{Clock, SystemClock};

use crate::{
    dead_letters::InProcessDeadLetters, holdings::HoldingsRecord, publisher::InProcessPublisher,
    queue::Queue, subscription::InProcessSubscription,
};

/// How long [`Broker::close`] waits for consumers to settle what is published.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// A broker in memory. Cheap to clone; the clones are the same broker.
#[derive(Debug, Clone)]
pub struct InProcessBroker {
    queue: Arc<Queue>,
    holdings: HoldingsRecord,
}

impl InProcessBroker {
    /// An empty broker. At most `capacity` messages (at least 1) are published and not settled at any time; a
    /// further `publish` waits for its turn.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_clock(capacity, Arc::new(SystemClock))
    }

    /// As [`Self::new`], with the clock that says when a message was rejected.
    #[must_use]
    pub fn with_clock(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Arc::new(Queue::new(capacity, clock)),
            holdings: HoldingsRecord::default(),
        }
    }
}

#[async_trait]
impl Broker for InProcessBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(InProcessPublisher::new(Arc::clone(&self.queue)))
    }

    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription> {
        let (queue, holdings) = (Arc::clone(&self.queue), self.holdings.clone());
        Box::new(InProcessSubscription::new(queue, prefetch, holdings))
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(InProcessDeadLetters::new(Arc::clone(&self.queue)))
    }

    fn consume_link(&self) -> LinkState {
        self.queue.link()
    }

    fn holdings(&self) -> Holdings {
        self.holdings.read()
    }

    async fn info(&self) -> Result<BrokerInfo, PublishError> {
        let (queued, dead) = self.queue.depths();
        Ok(BrokerInfo {
            version: format!("in-process {}", env!("CARGO_PKG_VERSION")),
            queued,
            dead,
        })
    }

    async fn close(&self) {
        self.queue.refuse_publishing();
        // The outcome is the same whether all was settled in time: the rest is unconfirmed, and its publishers know.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.queue.settled()).await;
        self.queue.close();
    }
}
