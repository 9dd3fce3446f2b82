use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::broker::{
    Broker, BrokerInfo, DeadLetters, LinkState, LinkStatistics, Prefetch, PrefetchUsage, PublishError,
    Publisher, Subscription,
};
use async_trait::async_trait;
use shared_types::ErrorChain;
use tokio::{sync::watch, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    RabbitMqSettings,
    consuming::{ConsumingLink, PrefetchUsageCounters},
    dead_letter_queue::RabbitMqDeadLetters,
    error::LinkError,
    link_statistics::LinkStatisticsRecorder,
    publishing::{PublishHandle, PublishingLink},
    supervisor::supervise,
    topology::Topology,
};

/// How long [`Broker::close`] waits. Longer than all time limits of the tasks' end together.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// The connections to a RabbitMQ server. Dropping it ends its tasks as [`Broker::close`] does, without waiting for them.
#[derive(Debug)]
pub struct RabbitMqBroker {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    publisher: PublishHandle,
    dead_letters: Arc<RabbitMqDeadLetters>,
    /// The states of the links of the existing subscriptions.
    consume_links: Mutex<Vec<watch::Receiver<LinkState>>>,
    /// The statistics of the links of all subscriptions, ended ones included.
    consume_statistics: Arc<LinkStatisticsRecorder>,
    prefetch_usage: Arc<PrefetchUsageCounters>,
    tasks: TaskTracker,
    closing: CancellationToken,
    _close: DropGuard,
}

impl RabbitMqBroker {
    /// Starts to connect in the background, and returns at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: RabbitMqSettings) -> Self {
        let settings = Arc::new(settings);
        let topology = Topology::of(&settings);
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (link, publisher) = PublishingLink::new(Arc::clone(&settings), topology.clone(), closing.clone());
        tasks.spawn(supervise(link, closing.clone(), settings.reconnect_delay_max));
        Self {
            dead_letters: Arc::new(RabbitMqDeadLetters::new(Arc::clone(&settings), topology.clone())),
            settings,
            topology,
            publisher,
            consume_links: Mutex::default(),
            consume_statistics: Arc::default(),
            prefetch_usage: Arc::default(),
            tasks,
            _close: closing.clone().drop_guard(),
            closing,
        }
    }

    async fn ask(&self) -> Result<BrokerInfo, PublishError> {
        let link = self.publisher.connection()?;
        let version = link
            .server_version()
            .await
            .map_err(|error| PublishError::Unavailable {
                reason: format!("could not ask for the version: {error}"),
            })?;
        let unavailable = |error: LinkError| PublishError::Unavailable {
            reason: ErrorChain(&error).to_string(),
        };
        let queued = self
            .topology
            .depth(&link, &self.topology.queue)
            .await
            .map_err(unavailable)?;
        let dead = self
            .topology
            .depth(&link, &self.topology.dead_queue)
            .await
            .map_err(unavailable)?;
        Ok(BrokerInfo {
            version: version.to_owned(),
            queued: queued.into(),
            dead: dead.into(),
        })
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(self.publisher.clone())
    }

    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription> {
        let (link, subscription, state) = ConsumingLink::new(
            Arc::clone(&self.settings),
            self.topology.clone(),
            prefetch,
            self.publisher.clone(),
            Arc::clone(&self.consume_statistics),
            Arc::clone(&self.prefetch_usage),
            self.closing.clone(),
        );
        self.consume_links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(state);
        self.tasks.spawn(supervise(
            link,
            self.closing.clone(),
            self.settings.reconnect_delay_max,
        ));
        Box::new(subscription)
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.dead_letters) as Arc<dyn DeadLetters>
    }

    /// The first state of a subscription's link that is not ready. Without a subscription, the state of the link that publishes.
    fn consume_link(&self) -> LinkState {
        let mut links = self.consume_links.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.closing.is_cancelled() {
            links.retain(|link| link.has_changed().is_ok());
        }
        if links.is_empty() {
            return self.publisher.link();
        }
        let states = links.iter().map(|link| link.borrow().clone());
        states
            .into_iter()
            .find(|state| !state.is_ready())
            .unwrap_or(LinkState::Ready)
    }

    fn consume_statistics(&self) -> LinkStatistics {
        self.consume_statistics.read()
    }

    fn prefetch_usage(&self) -> PrefetchUsage {
        self.prefetch_usage.read()
    }

    async fn info(&self) -> Result<BrokerInfo, PublishError> {
        // The first call opens a connection to ask for the version.
        let limit = self.settings.connect_timeout;
        timeout(limit, self.ask()).await.unwrap_or_else(|_elapsed| {
            Err(PublishError::Unavailable {
                reason: match self.publisher.link() {
                    LinkState::Ready => format!("no answer within {} s", limit.as_secs_f32()),
                    LinkState::Blocked { reason } | LinkState::Down { reason } => reason,
                },
            })
        })
    }

    async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                patience_s = CLOSE_TIMEOUT.as_secs(),
                "the links to the broker are not closed yet: leaving them"
            );
        }
    }
}
