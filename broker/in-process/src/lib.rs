//! The message broker of the embedded default: queues in this process's memory.
//!
//! A message in memory is lost with the process. Therefore [`Publisher::publish`] returns only when a consumer has settled
//! the message, and the publisher keeps its own copy until then. Dead letters are kept in memory too, as long as the
//! process lives.
//!
//! The broker is a locked queue with wake-ups. It spawns no tasks and does not poll.

mod dead_letters;
mod prefetch_usage;
mod publisher;
mod queue;
mod subscription;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{
    Broker, BrokerInfo, DeadLetters, LinkState, Prefetch, PrefetchUsage, PublishError, Publisher,
    Subscription,
};
use shared_types::{Clock, SystemClock};

use crate::{prefetch_usage::PrefetchUsageCounters, queue::Queue, subscription::InProcessSubscription};

/// How long [`Broker::close`] waits for consumers to settle the published messages.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A broker in memory. Cheap to clone; the clones are the same broker.
#[derive(Debug, Clone)]
pub struct InProcessBroker {
    queue: Arc<Queue>,
    prefetch_usage: PrefetchUsageCounters,
}

impl InProcessBroker {
    /// An empty broker that holds at most `capacity` (at least 1) published, unsettled messages. A further `publish` waits.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_clock(capacity, Arc::new(SystemClock))
    }

    /// [`Self::new`] with the clock that dates rejected messages.
    #[must_use]
    pub fn with_clock(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Arc::new(Queue::new(capacity, clock)),
            prefetch_usage: PrefetchUsageCounters::default(),
        }
    }
}

#[async_trait]
impl Broker for InProcessBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::clone(&self.queue) as Arc<dyn Publisher>
    }

    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription> {
        let (queue, prefetch_usage) = (Arc::clone(&self.queue), self.prefetch_usage.clone());
        Box::new(InProcessSubscription::new(queue, prefetch, prefetch_usage))
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.queue) as Arc<dyn DeadLetters>
    }

    fn consume_link(&self) -> LinkState {
        self.queue.link()
    }

    fn prefetch_usage(&self) -> PrefetchUsage {
        self.prefetch_usage.read()
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
        // Publishers of messages that are not settled in time get an error.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.queue.settled()).await;
        self.queue.close();
    }
}
