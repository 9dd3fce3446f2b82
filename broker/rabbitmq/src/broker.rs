use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::broker::{
    Broker, BrokerInfo, DeadLetters, Holdings, LinkState, LinkStatistics, Prefetch, PublishError, Publisher,
    Subscription,
};
use async_trait::async_trait;
use tokio::{sync::watch, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    RabbitMqSettings,
    consuming::{ConsumingLink, HoldingsRecord},
    dead_letters::RabbitMqDeadLetters,
    error::{LinkError, in_one_line},
    publishing::{Lane, PublishingLink, RabbitMqPublisher},
    record::LinkRecord,
    supervisor::supervise,
    topology::Topology,
};

/// Longer than everything that the tasks do at the end together.
const CLOSE_PATIENCE: Duration = Duration::from_secs(8);

/// A RabbitMQ that is connected to for as long as this lives. Dropping it ends its tasks as [`Broker::close`] does,
/// without waiting for them.
#[derive(Debug)]
pub struct RabbitMqBroker {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    lane: Lane,
    dead_letters: Arc<RabbitMqDeadLetters>,
    /// Of the subscriptions that exist.
    consume_links: Mutex<Vec<watch::Receiver<LinkState>>>,
    /// Of all subscriptions that ever were.
    consume_record: Arc<LinkRecord>,
    holdings: Arc<HoldingsRecord>,
    tasks: TaskTracker,
    closing: CancellationToken,
    _close: DropGuard,
}

impl RabbitMqBroker {
    /// Begins to connect, and returns at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: RabbitMqSettings) -> Self {
        let settings = Arc::new(settings);
        let topology = Topology::of(&settings);
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (link, lane) = PublishingLink::new(Arc::clone(&settings), topology.clone(), closing.clone());
        tasks.spawn(supervise(link, closing.clone(), settings.reconnect_delay_max));
        Self {
            dead_letters: Arc::new(RabbitMqDeadLetters::new(Arc::clone(&settings), topology.clone())),
            settings,
            topology,
            lane,
            consume_links: Mutex::default(),
            consume_record: Arc::default(),
            holdings: Arc::default(),
            tasks,
            _close: closing.clone().drop_guard(),
            closing,
        }
    }

    async fn ask(&self) -> Result<BrokerInfo, PublishError> {
        let link = self.lane.connection()?;
        let version = link
            .server_version()
            .await
            .map_err(|error| PublishError::Unavailable {
                reason: format!("could not ask for the version: {error}"),
            })?;
        let unavailable = |error: LinkError| PublishError::Unavailable {
            reason: in_one_line(&error),
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
        Arc::new(RabbitMqPublisher::new(self.lane.clone(), &self.settings))
    }

    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription> {
        let (link, subscription, state) = ConsumingLink::new(
            Arc::clone(&self.settings),
            self.topology.clone(),
            prefetch,
            self.lane.clone(),
            Arc::clone(&self.consume_record),
            Arc::clone(&self.holdings),
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

    /// The first subscription's state that is not ready. Where nothing is subscribed, that of publishing: it is all
    /// that is known of the broker.
    fn consume_link(&self) -> LinkState {
        let mut links = self.consume_links.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.closing.is_cancelled() {
            links.retain(|link| link.has_changed().is_ok());
        }
        if links.is_empty() {
            return self.lane.link();
        }
        let states = links.iter().map(|link| link.borrow().clone());
        states
            .into_iter()
            .find(|state| !state.is_ready())
            .unwrap_or(LinkState::Ready)
    }

    fn consume_statistics(&self) -> LinkStatistics {
        self.consume_record.statistics()
    }

    fn holdings(&self) -> Holdings {
        self.holdings.read()
    }

    async fn info(&self) -> Result<BrokerInfo, PublishError> {
        // The first time it connects once more.
        let patience = self.settings.connect_timeout;
        timeout(patience, self.ask()).await.unwrap_or_else(|_elapsed| {
            Err(PublishError::Unavailable {
                reason: match self.lane.link() {
                    LinkState::Ready => format!("no answer within {} s", patience.as_secs_f32()),
                    LinkState::Blocked { reason } | LinkState::Down { reason } => reason,
                },
            })
        })
    }

    async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                patience_s = CLOSE_PATIENCE.as_secs(),
                "the links to the broker are not closed yet: leaving them"
            );
        }
    }
}
